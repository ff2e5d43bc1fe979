//! Where the plugins of the tests come from: fixtures in component text, and what `make build` leaves.

#[path = "../../plugins/fixtures.rs"]
pub mod fixtures;

use std::path::{Path, PathBuf};

pub use fixtures::Fixture;

/// Puts the plugin `name` as `NAME.wasm` into `folder`: a fixture, else a file of [`built`].
pub fn install(name: &str, folder: &Path) {
    let bytes = match name {
        "steady" => fixtures::steady().build(),
        "trap" => fixtures::trap().build(),
        "spin" => fixtures::spin().build(),
        "valve" => fixtures::valve().build(),
        "heir" => fixtures::heir_good().build(),
        "writer" => fixtures::devices::writer(0).build(),
        "flood" => fixtures::devices::flood().build(),
        "leak" => fixtures::devices::leak().build(),
        "asker" => fixtures::devices::asker().build(),
        "keeper" => fixtures::devices::keeper().build(),
        "huge" => huge(),
        "wide" => wide(),
        _ => {
            let path = built().join(format!("{name}.wasm"));
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; `make build` makes it", path.display()))
        }
    };
    std::fs::write(folder.join(format!("{name}.wasm")), bytes).expect("write the plugin");
}

/// Every poll brings 4 KiB of letters that no compression makes much smaller: it fills a buffer quickly.
fn wide() -> Vec<u8> {
    // `level` is a text here; the letters lie between the readings and what the host hands over.
    let letters = "
        (func $letter (result i32)
          (global.set $state
            (i64.add (i64.mul (global.get $state) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
          (i32.add (i32.const 48) (i32.wrap_i64 (i64.shr_u (global.get $state) (i64.const 58)))))
        (func $wide (param $now i64) (result i32) (local $at i32)
          (global.set $state (i64.xor (global.get $state) (local.get $now)))
          (local.set $at (i32.const 32768))
          (loop $more
            (i32.store8 (local.get $at) (call $letter))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $at) (i32.const 36864))))
          (call $reading (i32.const 1024) (i32.const 1) (i32.const 4) (i64.const 0))
          (call $text (i32.const 1048) (i32.const 32768) (i32.const 4096))
          (call $outcome (i32.const 1)))";
    Fixture::new()
        .with("name", "wide")
        .with("globals", "(global $state (mut i64) (i64.const 88172645463325252))")
        .with("functions", letters)
        .with("start", "(i32.store8 (i32.const 656) (i32.const 4))")
        .with("run", "(call $wide (local.get $now))")
        .build()
}

/// A good plugin of 50 MB, all but a little of which means nothing.
fn huge() -> Vec<u8> {
    const BYTES: u32 = 50_000_000;
    let mut bytes = fixtures::steady().build();
    // A section of a name and whatever follows; its length in seven bits a byte.
    let length = (BYTES + 2).to_le_bytes();
    let mut rest = u32::from_le_bytes(length);
    bytes.push(0);
    while rest >= 0x80 {
        bytes.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.extend([rest as u8, 1, b'x']);
    bytes.extend((0..BYTES).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    bytes
}

/// The folder with the plugins that were built.
pub fn built() -> PathBuf {
    match std::env::var_os("OUTSTATION_TEST_PLUGINS") {
        Some(folder) => folder.into(),
        None => repository().join("target/plugins"),
    }
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
