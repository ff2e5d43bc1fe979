//! What a guest wrote to its disk, as QEMU's `blklogwrites` recorded it (the format of Linux's dm-log-writes), and what
//! a power cut may leave of it: all up to a flush, and of what followed some writes, whole or in part.
//!
//! ```text
//!   superblock │ entry │ data ... │ entry │ data ... │ entry (a flush) │ ...      each from a sector on
//! ```
//!
//! Owns the open log. Invariants: what a flush covers is in every image made behind it; nothing of a later flush is.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// What the log begins with.
const MAGIC: u64 = 0x6a_7366_7773_6872;
const FLUSH: u64 = 1;
/// Durable by itself.
const FUA: u64 = 2;
/// Has a length and no data.
const DISCARD: u64 = 4;
/// A disk writes this much as a whole.
const SECTOR: usize = 512;
/// The first block of the file system, with the superblock: ext4 itself relies on the disk to write it as a whole.
const WHOLE_BELOW: u64 = 4096;

/// A recorded write, or a flush.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where on the disk, bytes.
    at: u64,
    /// Where its data are in the log, and how many bytes.
    data: u64,
    length: u64,
    flags: u64,
    /// Bytes of the log up to its end.
    end: u64,
}

/// See the module.
pub struct Writes {
    log: File,
    entries: Vec<Entry>,
}

/// A small generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

impl Writes {
    /// Reads a log up to its last whole entry: who wrote it was killed.
    pub fn read(path: &Path) -> Self {
        let log = File::open(path).expect("open the log of writes");
        let length = log.metadata().expect("its length").len();
        let words = |at: u64| {
            let mut bytes = [0; 32];
            log.read_exact_at(&mut bytes, at).expect("read the log of writes");
            let word = |n: usize| u64::from_le_bytes(bytes[8 * n..8 * n + 8].try_into().expect("8 bytes"));
            [word(0), word(1), word(2), word(3)]
        };
        let [magic, version, _, sector] = words(0);
        let sector = sector & 0xffff_ffff;
        assert_eq!((magic, version), (MAGIC, 1), "not a log of writes");
        let (mut entries, mut at) = (Vec::new(), sector);
        while at + sector <= length {
            let [place, sectors, flags, _] = words(at);
            let data = at + sector;
            let bytes = if flags & DISCARD == 0 { sectors * sector } else { 0 };
            // An entry whose place was taken and that was never written is zeros.
            if data + bytes > length || (sectors == 0 && flags == 0) {
                break;
            }
            at = data + bytes;
            entries.push(Entry { at: place * sector, data, length: bytes, flags, end: at });
        }
        Self { log, entries }
    }

    /// The flushes, by number of entry.
    pub fn flushes(&self) -> Vec<usize> {
        (0..self.entries.len()).filter(|&at| self.entries[at].flags & FLUSH != 0).collect()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How long the log was when that entry was in it.
    pub fn bytes_at(&self, entry: usize) -> u64 {
        self.entries[entry].end
    }

    fn data(&self, entry: &Entry) -> Vec<u8> {
        let mut data = vec![0; usize::try_from(entry.length).expect("it fits into memory")];
        self.log.read_exact_at(&mut data, entry.data).expect("read the log of writes");
        data
    }

    /// Writes all of these to an image.
    pub fn replay(&self, which: Range<usize>, image: &File) {
        for entry in &self.entries[which] {
            image.write_all_at(&self.data(entry), entry.at).expect("write to the image");
        }
    }

    /// Writes what may be there of what no flush has covered: each of them, none, some sectors, in any order.
    pub fn replay_some(&self, which: Range<usize>, image: &File, random: &mut Random) {
        let mut entries: Vec<&Entry> = self.entries[which].iter().collect();
        let share = [0, 30, 70, 100][random.below(4) as usize];
        let torn = [0, 20][random.below(2) as usize];
        if random.below(2) == 0 {
            for at in (1..entries.len()).rev() {
                entries.swap(at, random.below(at as u64 + 1) as usize);
            }
        }
        for entry in entries {
            let data = self.data(entry);
            if entry.flags & FUA == 0 && entry.at >= WHOLE_BELOW && random.below(100) < torn {
                for (number, sector) in data.chunks(SECTOR).enumerate() {
                    if random.below(2) == 0 {
                        image.write_all_at(sector, entry.at + (number * SECTOR) as u64).expect("write to the image");
                    }
                }
            } else if entry.flags & FUA != 0 || random.below(100) < share {
                image.write_all_at(&data, entry.at).expect("write to the image");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of two writes, a flush, a write, and half of another.
    fn log(folder: &Path) -> Writes {
        let mut bytes = Vec::new();
        let mut put = |words: [u64; 4], data: &[u8]| {
            words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
            bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
            bytes.extend_from_slice(data);
        };
        put([MAGIC, 1, 0, 512], &[]);
        put([16, 1, 0, 0], &[1; 512]);
        put([17, 2, 0, 0], &[2; 1024]);
        put([0, 0, FLUSH, 0], &[]);
        put([16, 3, 0, 0], &[3; 1536]);
        put([20, 4, 0, 0], &[4; 100]);
        std::fs::write(folder.join("log"), bytes).expect("write the log");
        Writes::read(&folder.join("log"))
    }

    fn image(folder: &Path) -> (File, impl Fn() -> Vec<u8>) {
        let path = folder.join("image");
        std::fs::write(&path, [0; 24 * SECTOR]).expect("an image");
        let first_of_each = move || std::fs::read(&path).expect("the image").chunks(SECTOR).map(|s| s[0]).collect();
        (File::options().write(true).open(folder.join("image")).expect("an image"), first_of_each)
    }

    #[test]
    fn what_a_flush_covers_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (writes, (image, sectors)) = (log(folder.path()), image(folder.path()));
        assert_eq!((writes.len(), writes.flushes()), (4, vec![2]), "half an entry is none");
        writes.replay(0..3, &image);
        assert_eq!(sectors()[16..19], [1, 2, 2]);
    }

    #[test]
    fn of_the_rest_anything_may_be_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (writes, (image, sectors)) = (log(folder.path()), image(folder.path()));
        let mut seen = std::collections::BTreeSet::new();
        let mut random = Random(1);
        for _ in 0..500 {
            writes.replay(0..3, &image);
            writes.replay_some(3..4, &image, &mut random);
            seen.insert(sectors()[16..19].to_vec());
        }
        assert_eq!(seen.len(), 8, "none, all, and each part: {seen:?}");
    }
}
