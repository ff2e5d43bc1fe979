//! The clocks: the only place that reads them. Everywhere else time is an argument.
//!
//! Owns the start that monotonic time counts from (the first call in this process) and the answer to
//! "has the clock of this host ever been set?", which only ever turns from no to yes.
//!
//! That answer is made from evidence, since a host without a battery-backed clock starts with the time of
//! its last shutdown, which looks as good as any. Evidence is: a hardware clock that the kernel took its
//! time from, a time daemon's mark, or a step of the wall clock while this process runs. Where none of it
//! can be seen (a container without sysfs) a plausible year has to do.

#![expect(clippy::disallowed_methods, reason = "this is where clocks are read")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};

/// 2024-01-01T00:00:00Z. Nobody set a clock that shows less.
const PLAUSIBLE_NS: i64 = 1_704_067_200_000_000_000;

/// The wall clock was set, rather than disciplined, if it moves against the monotonic one by more than this.
const STEP_NS: i64 = 2_000_000_000;

/// Atomic time is ahead of UTC by 37 s, and never by less than this again.
const LEAP_S_MIN: i64 = 9;

/// systemd-timesyncd's mark of its first success since the host started.
const TIMESYNC_MARK: &str = "/run/systemd/timesync/synchronized";

/// Where the kernel shows its hardware clocks.
const HARDWARE_CLOCKS: &str = "/sys/class/rtc";

/// Where monotonic time starts, and what the wall clock showed there.
struct Start {
    mono: Instant,
    wall_ns: i64,
}

static START: LazyLock<Start> = LazyLock::new(|| Start { mono: Instant::now(), wall_ns: wall_ns() });

/// Whether evidence was seen. It stays: a clock that was set is not unset before the host restarts.
static SYNCED: AtomicBool = AtomicBool::new(false);

/// Monotonic time since the process's first call. Does not go on while the host is suspended.
pub fn now() -> Duration {
    START.mono.elapsed()
}

/// The point of `now()`'s time line as the runtime's timers want it. What lies beyond the range of the
/// clock is taken as 30 years ahead.
pub fn instant(at: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
    START.mono.checked_add(at.min(FAR)).unwrap_or(START.mono)
}

/// Microseconds of CLOCK_MONOTONIC, the time that the service manager counts in.
pub fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

/// The wall clock: nanoseconds since 1970, UTC. Negative before it.
pub fn wall_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

/// Whether the host's clock has been set since it started. Cheap once it has.
pub fn synced() -> bool {
    if SYNCED.load(Ordering::Relaxed) {
        return true;
    }
    let mono_ns = i64::try_from(now().as_nanos()).unwrap_or(i64::MAX);
    let evidence = Evidence {
        wall_ns: wall_ns(),
        step_ns: wall_ns().saturating_sub(START.wall_ns).saturating_sub(mono_ns),
        timesync: Path::new(TIMESYNC_MARK).exists(),
        // Chrony, ntpd and PTP daemons tell the kernel the offset of atomic time; it is 0 from the start.
        tai: clock_gettime_dynamic(DynamicClockId::Tai)
            .is_ok_and(|tai| tai.tv_sec - clock_gettime(ClockId::Realtime).tv_sec > LEAP_S_MIN),
        hardware: hardware_clock(Path::new(HARDWARE_CLOCKS)),
    };
    let synced = evidence.synced();
    if synced {
        SYNCED.store(true, Ordering::Relaxed);
    }
    synced
}

/// What can be seen of the clock having been set.
struct Evidence {
    wall_ns: i64,
    step_ns: i64,
    timesync: bool,
    tai: bool,
    hardware: Hardware,
}

impl Evidence {
    fn synced(&self) -> bool {
        self.wall_ns >= PLAUSIBLE_NS
            && (self.timesync
                || self.tai
                || self.step_ns.saturating_abs() > STEP_NS
                || matches!(self.hardware, Hardware::TookTime | Hardware::Unknown))
    }
}

/// Whether the kernel took its time from a battery-backed clock when it started.
#[derive(Debug, PartialEq)]
enum Hardware {
    TookTime,
    None,
    /// The kernel doesn't show: a container, or a kernel without such clocks.
    Unknown,
}

fn hardware_clock(folder: &Path) -> Hardware {
    let Ok(clocks) = fs::read_dir(folder) else { return Hardware::Unknown };
    for clock in clocks.flatten() {
        if fs::read_to_string(clock.path().join("hctosys")).is_ok_and(|text| text.trim() == "1") {
            return Hardware::TookTime;
        }
    }
    Hardware::None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER_2026_NS: i64 = 1_795_000_000_000_000_000;

    fn nothing() -> Evidence {
        Evidence { wall_ns: NOVEMBER_2026_NS, step_ns: 0, timesync: false, tai: false, hardware: Hardware::None }
    }

    #[test]
    fn monotonic_time_does_not_go_back_and_maps_to_the_runtime_clock() {
        let first = now();
        let second = now();
        assert!(second >= first);
        assert_eq!(instant(second) - instant(first), second.saturating_sub(first));
        assert!(instant(Duration::MAX) > instant(second));
    }

    #[test]
    fn f46_a_plausible_year_alone_is_no_evidence() {
        assert!(!nothing().synced());
        assert!(Evidence { timesync: true, ..nothing() }.synced());
        assert!(Evidence { tai: true, ..nothing() }.synced());
        assert!(Evidence { hardware: Hardware::TookTime, ..nothing() }.synced());
        assert!(Evidence { hardware: Hardware::Unknown, ..nothing() }.synced());
        assert!(Evidence { step_ns: -3_600_000_000_000, ..nothing() }.synced());
        assert!(!Evidence { step_ns: 400_000_000, ..nothing() }.synced(), "discipline is not a step");
        assert!(!Evidence { wall_ns: 0, timesync: true, ..nothing() }.synced());
    }

    #[test]
    fn a_hardware_clock_counts_if_the_kernel_took_its_time_from_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(hardware_clock(&folder.path().join("absent")), Hardware::Unknown);
        assert_eq!(hardware_clock(folder.path()), Hardware::None);
        let clock = folder.path().join("rtc0");
        fs::create_dir(&clock).expect("a folder");
        fs::write(clock.join("hctosys"), "0\n").expect("a file");
        assert_eq!(hardware_clock(folder.path()), Hardware::None);
        fs::write(clock.join("hctosys"), "1\n").expect("a file");
        assert_eq!(hardware_clock(folder.path()), Hardware::TookTime);
    }
}
