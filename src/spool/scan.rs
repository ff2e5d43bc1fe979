//! Walks the frames of one segment, verifies each, and finds the way on behind damage.
//!
//! ```text
//!  Commit? ──good──▶ frames ──zeros──▶ next page: Commit? ...
//!     │ bad             │ bad                                     damage: a later commit of this run, or of a
//!     └──────┬──────────┘                                         younger one, says that this place was durable
//!            ▼                                                    tail: none does; the log ends here
//!         resync ──▶ Damage, go on there   or   End(cut)
//! ```
//!
//! Owns position, run and the next number. Invariants: frames of an earlier run are never given behind those of a
//! later one; every frame given has passed its CRC; positions only grow.

use super::format::{Commit, FRAME_HEAD, FrameHead, Header, Kind, PAGE, Run, Seed, page_up};
use super::payload::Payload;
use super::sabotage::{self, Fault};
use super::storage::Storage;
use super::window::Window;

/// What is known of the end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The youngest: what is behind the last durable place may be torn, and is cut.
    Tail,
    /// Another segment was begun behind it: whatever is good counts.
    Closed,
    /// All bytes up to the limit of the window were durable.
    Sealed,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A commit begins; `new_run` if in another run, in which routes are given anew.
    Commit { commit: Commit, new_run: bool },
    /// A frame; its body is at [`Scan::body`].
    Frame { head: FrameHead, run: Run },
    /// Bytes that were durable and are not good any more.
    Damage { from: u32, to: u32 },
    /// Numbers that should stand here and don't; `before` is the run that stood before the place.
    Missing { from: u64, to: u64, before: Option<Run> },
    /// Nothing more; the next frame would stand at this offset.
    End { cut: u32 },
}

/// A walk through a segment.
#[derive(Debug)]
pub(crate) struct Scan {
    window: Window,
    seed: Seed,
    mode: Mode,
    offset: u32,
    /// Where the last good frame ends.
    frames_end: u32,
    wants_commit: bool,
    run: Option<Run>,
    before: Option<Run>,
    next: u64,
    body: (u32, u32),
    pending: Option<Step>,
    /// Where the frame that comes after missing numbers would not count, and the number there.
    doubtful: Option<(u32, u64)>,
    last: Option<Step>,
    /// Damage was skipped: the page of the run that comes may be lost.
    jumped: bool,
    /// Highest boot that any good commit head names, also of what is cut.
    pub(crate) boot_max: u32,
}

impl Scan {
    /// Walks the first `limit` bytes of the file `name`.
    pub(crate) fn new(name: String, header: &Header, limit: u32, mode: Mode) -> Self {
        Self {
            window: Window::new(name, limit),
            seed: Seed { salt: header.salt, segment: header.number },
            mode,
            offset: PAGE,
            frames_end: PAGE,
            wants_commit: true,
            run: None,
            before: None,
            next: header.first,
            body: (0, 0),
            pending: None,
            doubtful: None,
            last: None,
            jumped: false,
            boot_max: 0,
        }
    }

    /// The number that the next record would have.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// The run that stands.
    pub(crate) fn run(&self) -> Option<Run> {
        self.run
    }

    /// Pages that could not be read.
    pub(crate) fn unreadable(&self) -> u32 {
        self.window.unreadable
    }

    /// Goes on with the memory of a walk that is over.
    pub(crate) fn inherit(&mut self, other: Self) {
        self.window.inherit(other.window);
    }

    /// Bytes that were read so far.
    pub(crate) fn filled(&self) -> u64 {
        self.window.filled
    }

    /// The segment has grown since.
    pub(crate) fn extend(&mut self, limit: u32, mode: Mode) {
        self.window.extend(limit);
        self.mode = mode;
    }

    /// Gives the last frame once more.
    pub(crate) fn again(&mut self) {
        self.pending = self.last;
    }

    /// The body of the frame given last, as it is stored.
    pub(crate) fn body<S: Storage>(&mut self, storage: &mut S) -> &[u8] {
        let (at, length) = self.body;
        self.window.slice(storage, at, length).unwrap_or_default()
    }

    /// [`Self::body`], to be kept.
    pub(crate) fn payload<S: Storage>(&mut self, storage: &mut S) -> Payload {
        let (at, length) = self.body;
        self.window.share(storage, at, length).unwrap_or_default()
    }

    /// The next step; after `End` always `End`.
    pub(crate) fn step<S: Storage>(&mut self, storage: &mut S) -> Step {
        if let Some(step) = self.pending.take() {
            return step;
        }
        loop {
            if self.offset >= self.window.limit() {
                return Step::End { cut: self.window.limit() };
            }
            let in_page = self.offset % PAGE;
            if PAGE - in_page < FRAME_HEAD {
                self.offset = page_up(self.offset);
                continue;
            }
            let Some(bytes) = self.window.slice(storage, self.offset, FRAME_HEAD) else {
                return self.resync(storage);
            };
            if in_page != 0 && !self.wants_commit && bytes.iter().take(8).all(|byte| *byte == 0) {
                self.offset = page_up(self.offset);
                self.wants_commit = true;
                continue;
            }
            let Some((_, head)) = FrameHead::peek(bytes) else {
                return self.resync(storage);
            };
            return match head.kind {
                Kind::Commit => self.commit(storage),
                _ if self.wants_commit => self.resync(storage),
                _ => self.frame(storage, head),
            };
        }
    }

    fn commit<S: Storage>(&mut self, storage: &mut S) -> Step {
        let Some(commit) = self.commit_at(storage, self.offset) else {
            return self.resync(storage);
        };
        let follows = match self.run {
            None => true,
            Some(run) => run == commit.run || ((commit.opens_run || self.jumped) && commit.run.boot > run.boot),
        };
        if !follows {
            return self.resync(storage);
        }
        if self.follows_a_torn_one(&commit) {
            self.offset = self.frames_end;
            return self.resync(storage);
        }
        self.enter(commit);
        let new_run = self.before != Some(commit.run);
        self.numbered(Step::Commit { commit, new_run }, commit.first, 0)
    }

    /// What was not flushed may be torn so that it ends as a whole commit does, with zeros, and a commit behind it is there:
    /// a head names no number that nothing before it has said.
    fn follows_a_torn_one(&self, commit: &Commit) -> bool {
        let same_run = self.run == Some(commit.run) && !self.jumped;
        self.mode == Mode::Tail && same_run && commit.first > self.next && commit.durable <= self.frames_end
    }

    /// [`Self::step`] for who knows the state so far: where numbers are missing that are not settled in it, the frame behind
    /// them was written behind one that is not there, and the log ends before it, unless something says that this place was
    /// durable.
    pub(crate) fn step_with<S: Storage>(&mut self, storage: &mut S, settled: impl Fn(u64, u64) -> bool) -> Step {
        let step = self.step(storage);
        match (step, self.doubtful, self.mode) {
            (Step::Missing { from, to, .. }, Some((end, next)), Mode::Tail) if !settled(from, to) => {
                (self.pending, self.doubtful) = (None, None);
                (self.offset, self.frames_end, self.next) = (end, end, next);
                self.resync(storage)
            }
            _ => step,
        }
    }

    fn enter(&mut self, commit: Commit) {
        self.before = self.run;
        self.run = Some(commit.run);
        self.boot_max = self.boot_max.max(commit.run.boot);
        self.offset = self.offset.saturating_add(FRAME_HEAD + super::format::COMMIT_BODY);
        self.frames_end = self.offset;
        self.wants_commit = false;
        self.jumped = false;
        self.doubtful = None;
    }

    fn frame<S: Storage>(&mut self, storage: &mut S, head: FrameHead) -> Step {
        let (Some(run), Ok(size)) = (self.run, u32::try_from(head.size())) else {
            return self.resync(storage);
        };
        let (offset, seed) = (self.offset, Seed { salt: run.salt, segment: self.seed.segment });
        let good = self.window.slice(storage, offset, size).is_some_and(|frame| FrameHead::check(frame, offset, seed));
        if !good || head.kind == Kind::Footer {
            return self.resync(storage);
        }
        let is_state = matches!(head.kind, Kind::Change | Kind::Opening);
        self.doubtful = (!is_state && head.first > self.next).then_some((self.frames_end, self.next));
        self.body = (offset + FRAME_HEAD, head.length);
        self.offset = offset + size;
        self.frames_end = self.offset;
        self.last = Some(Step::Frame { head, run });
        self.numbered(Step::Frame { head, run }, head.first, head.count)
    }

    /// Gives `step`, after the numbers that are missing before it.
    fn numbered(&mut self, step: Step, first: u64, count: u32) -> Step {
        let expected = self.next;
        self.next = first.saturating_add(u64::from(count));
        if first > expected {
            self.pending = Some(step);
            return Step::Missing { from: expected, to: first, before: self.before };
        }
        step
    }

    fn commit_at<S: Storage>(&mut self, storage: &mut S, offset: u32) -> Option<Commit> {
        let seed = self.seed;
        let page = self.window.slice(storage, offset, FRAME_HEAD + super::format::COMMIT_BODY)?;
        Commit::find(page, offset, Some(seed))
    }

    /// What stands at `offset` is not good: damage or tail?
    fn resync<S: Storage>(&mut self, storage: &mut S) -> Step {
        let bad = self.offset;
        let mut page = page_up(bad.saturating_add(1));
        let mut goes_on: Option<(u32, Commit)> = None;
        let mut was_durable = self.mode != Mode::Tail || sabotage::on(Fault::TailKept);
        let mut newest = self.run;
        while page < self.window.limit() {
            if let Some(commit) = self.commit_at(storage, page) {
                self.boot_max = self.boot_max.max(commit.run.boot);
                let follows = newest.is_none_or(|run| run == commit.run || commit.run.boot > run.boot);
                if follows {
                    newest = Some(commit.run);
                    goes_on.get_or_insert((page, commit));
                    was_durable |= commit.durable > bad || commit.opens_run;
                    if was_durable {
                        break;
                    }
                }
            }
            page = page.saturating_add(PAGE);
        }
        match goes_on {
            Some((to, commit)) if was_durable => self.go_on(bad, to, commit),
            _ => self.end(bad),
        }
    }

    /// Goes on at the good commit at `to`.
    fn go_on(&mut self, bad: u32, to: u32, commit: Commit) -> Step {
        // A run that was begun where the log was cut: what lies between was never durable.
        let was_cut = commit.opens_run && commit.cut <= bad;
        self.offset = to;
        if was_cut {
            self.enter(commit);
            return self.numbered(Step::Commit { commit, new_run: true }, commit.first, 0);
        }
        // The commit itself is met again by the next step, which takes it whatever run stood before.
        self.wants_commit = true;
        self.jumped = true;
        Step::Damage { from: bad, to }
    }

    fn end(&mut self, bad: u32) -> Step {
        let limit = self.window.limit();
        if self.mode == Mode::Sealed && bad < limit {
            self.offset = limit;
            self.wants_commit = true;
            return Step::Damage { from: bad, to: limit };
        }
        Step::End { cut: bad }
    }
}
