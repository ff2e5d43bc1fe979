//! Opens what a power cut left, perhaps with further cuts on the way, and makes the model's demands.
//!
//! `SPOOL_CRASH_DUMP` in the environment prints what every opening finds.

use std::time::Duration;

use super::model::{Model, read_all, within};
use super::sim::{SURVIVALS, Sim, Survival};
use super::{noise, one_in, pick, route};
use crate::spool::core::Rng;
use crate::spool::format::{Header, HeaderPage};
use crate::spool::scan::{Mode, Scan, Step};
use crate::spool::*;

/// Opens what a cut left, perhaps cutting again on the way, and makes the model's demands.
pub(super) fn verify(mut sim: Sim, model: &Model, options: &Options, now: Now, rng: &mut Rng) {
    sim.bytes_max = 0;
    if one_in(rng, 8) {
        super::view::like_an_opening(&sim, options, Now { mono: Duration::ZERO, ..now }, model.damaged);
    }
    let now = Now { mono: Duration::ZERO, ..now };
    for _ in 0..rng.next() % 3 {
        sim.off_at = Some(rng.next() % 24);
        show(&mut sim);
        let options = Options { seed: rng.next(), ..options.clone() };
        let (spool, _) = Spool::open(sim, options, *b"ZZZZ", now).expect("opens on a failing disk");
        sim = spool.storage.after_cut(pick(rng, &SURVIVALS), rng.next());
    }
    if one_in(rng, 3) {
        let mut model = model.clone();
        let sim = second_life(sim, &mut model, options, now, rng);
        verify_last(sim, &model, options, now, rng);
    } else {
        verify_last(sim, model, options, now, rng);
    }
}

/// Opens, writes a little that is not flushed, and loses power once more: places written twice.
fn second_life(mut sim: Sim, model: &mut Model, options: &Options, now: Now, rng: &mut Rng) -> Sim {
    show(&mut sim);
    let options = Options { seed: rng.next(), ..options.clone() };
    let (mut spool, _) = Spool::open(sim, options, *b"ZZZZ", now).expect("opens");
    model.recovered(&mut spool);
    for n in 0..rng.next() % 16 {
        let size = spool.active.as_ref().map_or(100, |active| active.page_filler(&route("a")));
        let (first, payload) = (spool.end(), noise(n, size));
        let run = (spool.store(), spool.boot(), spool.run.seq(first));
        model.append(first, run, (route("a"), 1, 0, payload.clone()));
        spool.append(now, &route("a"), 1, 0, &payload).expect("fits");
    }
    spool.storage.after_cut(pick(rng, &SURVIVALS), rng.next())
}

fn verify_last(mut sim: Sim, model: &Model, options: &Options, now: Now, rng: &mut Rng) {
    let options = Options { seed: rng.next(), ..options.clone() };
    show(&mut sim);
    let (mut spool, opened) = Spool::open(sim, options.clone(), *b"ZZZZ", now).expect("opens");
    assert_eq!(opened.trouble, None);
    assert!(spool.store() != *b"ABCD" || spool.boot() > model.boot || model.boot == 0, "boot {}", spool.boot());
    let flushed = spool.sync(now);
    assert!(matches!(flushed, Ok(()) | Err(Error::Full)), "{flushed:?}");
    model.check(&mut spool);
    let number = spool.append(now, &route("after"), 1, 0, b"goes on").expect("takes records");
    let flushed_too = spool.sync(now);
    within(&spool.storage, options.max_size);
    if one_in(rng, 8) && flushed.is_ok() && flushed_too.is_ok() && !spool.full {
        let sim = spool.storage.after_cut(Survival::None, 0);
        let (mut spool, _) = Spool::open(sim, options, *b"ZZZZ", now).expect("opens once more");
        let entries = read_all(&mut spool);
        let mut there = entries.iter().any(|entry| entry.first == number);
        // With all older segments in flight, retention may have come to this one.
        there |= spool.delivery().is_done(number) && spool.stats().dropped > 0;
        assert!(there, "what was flushed after the recovery is there: {number}");
    }
}

/// What every opening finds, if it is asked for.
fn show(sim: &mut Sim) {
    if std::env::var_os("SPOOL_CRASH_DUMP").is_some() {
        let mut copy = sim.clone();
        copy.off_at = None;
        std::fs::write(format!("/tmp/spool-dump-{}", sim.operations % 2), dump(&mut copy)).expect("writes");
        println!("{}", dump(&mut copy));
    }
}

/// What stands in each file, for a look at a failure.
fn dump(sim: &mut Sim) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for file in sim.list().expect("lists") {
        let mut page = vec![0; 4096];
        let _ = sim.read(&file.name, 0, &mut page);
        let header = Header::decode(&page);
        let _ = writeln!(text, "{} {header:?}", file.name);
        let HeaderPage::Good(header) = header else { continue };
        let mut scan = Scan::new(file.name.clone(), &header, file.size as u32, Mode::Tail);
        loop {
            let step = scan.step(sim);
            let _ = match step {
                Step::Frame { head, run } => {
                    writeln!(
                        text,
                        "   {:?} {}+{} boot {} len {}",
                        head.kind, head.first, head.count, run.boot, head.length
                    )
                }
                other => writeln!(text, "   {other:?}"),
            };
            if matches!(step, Step::End { .. }) {
                break;
            }
        }
    }
    text
}
