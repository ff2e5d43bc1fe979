//! Asking the running agent, and what is said where none answers.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{fail, progress};
use crate::control::{Answer, Asking, Question};
use crate::os::places;

/// An answer that is none to the question.
pub(super) const ANOTHER_VERSION: &str = "the agent that runs is of another version; restart it";

/// The agent that runs on a configuration, if one does.
pub(super) struct Agent {
    file: PathBuf,
    socket: PathBuf,
}

/// Gives `work` the agent that runs on `file`.
pub(super) fn run<F: Future<Output = ExitCode>>(file: &Path, work: impl FnOnce(Agent) -> F) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let file = places::absolute_file(file);
    let socket = places::control_socket(&file);
    let status = runtime.block_on(work(Agent { file, socket }));
    // What still blocks is a write that nobody takes.
    runtime.shutdown_background();
    status
}

/// Asks one question; an error is said.
pub(super) fn ask(file: &Path, question: &Question, done: impl FnOnce(Answer) -> Result<ExitCode, String>) -> ExitCode {
    run(file, async |agent: Agent| {
        let answer = progress::during("waiting for the agent", agent.ask(question)).await;
        answer.and_then(done).unwrap_or_else(|why| fail(&why))
    })
}

impl Agent {
    /// Begins to ask.
    pub async fn begin(&self, question: &Question) -> Result<Asking, String> {
        Asking::begin(&self.socket, question).await.map_err(|error| self.unanswered(&error))
    }

    async fn ask(&self, question: &Question) -> Result<Answer, String> {
        match self.begin(question).await?.answer().await {
            Ok(Answer::Error(why)) => Err(why),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.unanswered(&error)),
        }
    }

    /// What it means, and what to do about it.
    fn unanswered(&self, error: &io::Error) -> String {
        let (file, socket) = (self.file.display(), self.socket.display());
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                let start = match self.file == Path::new(places::PACKAGED) {
                    true => "`systemctl start outstation` starts it, `systemctl status outstation` says why it does not run; \
                             another configuration is named with -c FILE"
                        .to_owned(),
                    false => format!("`outstation run -c {file}` starts one; another configuration is named with -c FILE"),
                };
                format!("no agent runs on {file} (nobody answers at {socket})\n  {start}")
            }
            ErrorKind::PermissionDenied => format!(
                "no rights to ask the agent at {socket}\n  its owner and its group may: use sudo, or become a member of \
                 the group (`sudo usermod -aG outstation NAME`, then log in again)"
            ),
            ErrorKind::TimedOut => {
                format!("the agent at {socket} does not answer in time: it is stuck, or the machine is")
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                format!("the agent at {socket} closed the connection: it has ended, or serves too many others")
            }
            ErrorKind::InvalidData => format!("what answers at {socket} is no agent of this version: {error}"),
            _ => format!("the agent at {socket} can't be asked: {error}"),
        }
    }
}
