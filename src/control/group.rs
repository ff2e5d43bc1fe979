//! The group that may ask: `outstation`, where the system has it.

use std::path::Path;

use rustix::process::Gid;
use tracing::debug;

/// The package makes it; whoever belongs to it may ask a running agent.
const NAME: &str = "outstation";
/// Most bytes of the list of groups that are read.
const GROUPS_BYTES_MAX: u64 = 4 << 20;

/// Gives the socket to the group. An agent that may not, because it is run by hand, keeps it in its own.
pub(super) fn hand_over(socket: &Path) {
    let Some(gid) = groups().as_deref().and_then(gid) else { return };
    if let Err(error) = rustix::fs::chown(socket, None, Some(gid)) {
        debug!("{} stays in the agent's own group: {error}", socket.display());
    }
}

fn groups() -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open("/etc/group").ok()?.take(GROUPS_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The group's number, from `name:password:number:members` a line.
fn gid(groups: &str) -> Option<Gid> {
    let mut fields = groups
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(NAME)).then_some(fields))?;
    fields.nth(1)?.parse().ok().filter(|&number| number != u32::MAX).map(Gid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_number_is_found() {
        let groups = "root:x:0:\nnot-outstation:x:7:\noutstation:x:998:anna,ben\n";
        assert_eq!(gid(groups).map(Gid::as_raw), Some(998));
        for none in ["", "root:x:0:\n", "outstation", "outstation:x:", "outstation:x:many:"] {
            assert_eq!(gid(none), None, "{none}");
        }
    }
}
