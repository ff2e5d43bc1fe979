//! What stands in a segment, byte by byte: header page, frames, commit heads. docs/spool-format.md draws it.
//!
//! Owns the constants of format version 1; none of them may change, another version is added instead.
//!
//! Invariants: every number is little-endian; a frame's CRC covers its header and body and is seeded with the salt
//! that holds where it stands, the segment's number and the frame's offset, so that a frame left over from another
//! life of the file, an earlier run, or another place never passes.

use super::bytes::{Put, Take, len_u32};
use super::sabotage::{self, Fault};

/// The version that this program writes, and the newest that it reads.
pub(crate) const VERSION: u16 = 1;
/// Commits start on pages of this size; what a power cut tears is never larger.
pub(crate) const PAGE: u32 = 4096;
/// First bytes of a header page.
const MAGIC: [u8; 8] = *b"OUTSPOOL";
/// The header's CRC stands here, whatever the version, over all bytes before it.
const HEADER_CRC_AT: usize = 508;
/// What a header is of.
const KIND_PLAIN: u16 = 0;
const KIND_PACKED: u16 = 1;
const KIND_VOID: u16 = 2;
/// Bytes of a frame before its body. A frame starts only where so many are left in the page.
pub(crate) const FRAME_HEAD: u32 = 32;
/// Bytes of a commit head's body.
pub(crate) const COMMIT_BODY: u32 = 72;
/// After so many bytes a new commit head is written even without a flush: the farthest that damage carries.
pub(crate) const COMMIT_MAX: u32 = 64 * 1024;

/// The start of the page that holds `offset`, or the next one.
pub(crate) fn page_up(offset: u32) -> u32 {
    offset.checked_next_multiple_of(PAGE).unwrap_or(u32::MAX - (PAGE - 1))
}

/// A run: one opening of the spool. Its salt seeds every frame that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) store: [u8; 4],
    pub(crate) boot: u32,
    /// Number of the boot's first message: `seq = number - base + 1`.
    pub(crate) base: u64,
    pub(crate) salt: u64,
}

impl Run {
    /// Appends 24 bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.salt);
        out.put_u64(self.base);
        out.put_u32(self.boot);
        out.extend_from_slice(&self.store);
    }

    pub(crate) fn decode(take: &mut Take<'_>) -> Option<Self> {
        let (salt, base, boot, store) = (take.u64()?, take.u64()?, take.u32()?, take.array()?);
        Some(Self { store, boot, base, salt })
    }

    pub(crate) fn seq(&self, number: u64) -> u64 {
        number.saturating_sub(self.base).saturating_add(1)
    }
}

/// The first page of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the segment.
    pub(crate) size: u32,
    /// Grows by one a segment; of two frames with one number the one in the higher segment counts.
    pub(crate) number: u64,
    /// It holds what other segments held, written densely; delivery state never stands in it.
    pub(crate) packed: bool,
    /// Number of its first message.
    pub(crate) first: u64,
    /// Seeds commit heads and the footer.
    pub(crate) salt: u64,
    /// The age clock when it was opened.
    pub(crate) age_ms: u64,
    /// The run that opened it: numbers that are missing before it belong to that run, from its base on.
    pub(crate) run: Run,
}

/// What a page that should be a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderPage {
    Good(Header),
    /// What stands behind it counts no more.
    Void,
    Newer(u16),
    Bad,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE as usize);
        page.extend_from_slice(&MAGIC);
        page.put_u16(VERSION);
        page.put_u16(if self.packed { KIND_PACKED } else { KIND_PLAIN });
        page.put_u32(self.size);
        page.put_u64(self.number);
        page.put_u64(self.first);
        page.put_u64(self.salt);
        page.put_u64(self.age_ms);
        self.run.encode(&mut page);
        page.resize(HEADER_CRC_AT, 0);
        let crc = crc32c::crc32c(&page);
        page.put_u32(crc);
        page.resize(PAGE as usize, 0);
        page
    }

    /// A header page that says that nothing behind it counts.
    pub(crate) fn void() -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE as usize);
        page.extend_from_slice(&MAGIC);
        page.put_u16(VERSION);
        page.put_u16(KIND_VOID);
        page.resize(HEADER_CRC_AT, 0);
        let crc = crc32c::crc32c(&page);
        page.put_u32(crc);
        page.resize(PAGE as usize, 0);
        page
    }

    pub(crate) fn decode(page: &[u8]) -> HeaderPage {
        Self::try_decode(page).unwrap_or(HeaderPage::Bad)
    }

    fn try_decode(page: &[u8]) -> Option<HeaderPage> {
        let (covered, rest) = page.split_at_checked(HEADER_CRC_AT)?;
        let crc = Take::new(rest).u32()?;
        let mut take = Take::new(covered);
        if take.array()? != MAGIC || crc != crc32c::crc32c(covered) {
            return None;
        }
        let version = take.u16()?;
        if version > VERSION {
            return Some(HeaderPage::Newer(version));
        }
        let kind = take.u16()?;
        if kind == KIND_VOID {
            return Some(HeaderPage::Void);
        }
        let packed = kind == KIND_PACKED;
        let header = Self {
            size: take.u32()?,
            number: take.u64()?,
            packed,
            first: take.u64()?,
            salt: take.u64()?,
            age_ms: take.u64()?,
            run: Run::decode(&mut take)?,
        };
        let sane = version == VERSION && header.size >= 2 * PAGE && header.size.is_multiple_of(PAGE);
        Some(if sane { HeaderPage::Good(header) } else { HeaderPage::Bad })
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First of a commit, on a page's start: names the run and the durable offset.
    Commit,
    /// A batch.
    Record,
    /// Gives a route an index in this segment.
    Route,
    /// Gaps, each with a number, and the whole delivery state after them: all or nothing.
    Change,
    /// A change with all values: opens a segment.
    Opening,
    /// One value.
    Value,
    /// What the segment holds, at its end.
    Footer,
}

impl Kind {
    fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Commit,
            2 => Self::Record,
            3 => Self::Route,
            4 => Self::Change,
            5 => Self::Opening,
            6 => Self::Value,
            7 => Self::Footer,
            _ => return None,
        })
    }

    fn as_u8(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Record => 2,
            Self::Route => 3,
            Self::Change => 4,
            Self::Opening => 5,
            Self::Value => 6,
            Self::Footer => 7,
        }
    }
}

/// Body is lz4: four bytes of its real length, then the block.
pub(crate) const FLAG_LZ4: u8 = 1;
/// This commit opens a run.
pub(crate) const FLAG_RUN: u8 = 2;
/// This commit stands in a packed segment.
pub(crate) const FLAG_PACKED: u8 = 8;
/// The host's clock had been set when this commit was begun.
pub(crate) const FLAG_SYNCED: u8 = 4;

/// The 32 bytes before a frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) length: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// Index of the route within the segment.
    pub(crate) route: u16,
    /// How many numbers it takes.
    pub(crate) count: u32,
    /// The first of them, or the next one if it takes none.
    pub(crate) first: u64,
    pub(crate) time_ns: i64,
}

/// What seeds a frame's CRC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    pub(crate) salt: u64,
    pub(crate) segment: u64,
}

impl Seed {
    fn crc(self, offset: u32, bytes: &[u8]) -> u32 {
        let salt = if sabotage::on(Fault::CrcUnsalted) { 0 } else { self.salt };
        let mut seed = [0u8; 20];
        let (a, rest) = seed.split_at_mut(8);
        let (b, c) = rest.split_at_mut(8);
        a.copy_from_slice(&salt.to_le_bytes());
        b.copy_from_slice(&self.segment.to_le_bytes());
        c.copy_from_slice(&offset.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&seed), bytes)
    }
}

impl FrameHead {
    /// Appends the frame to `out`, which starts at offset `out_at` of the segment.
    pub(crate) fn put(&self, out: &mut Vec<u8>, out_at: u32, seed: Seed, body: &[u8]) {
        let start = out.len();
        out.put_u32(0);
        out.put_u32(self.length);
        out.put_u8(self.kind.as_u8());
        out.put_u8(self.flags);
        out.put_u16(self.route);
        out.put_u32(self.count);
        out.put_u64(self.first);
        out.put_i64(self.time_ns);
        out.extend_from_slice(body);
        let offset = out_at.saturating_add(len_u32(start));
        let crc = seed.crc(offset, out.get(start + 4..).unwrap_or_default());
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Reads the head alone; the CRC is returned unchecked. `None` where no frame can start.
    pub(crate) fn peek(bytes: &[u8]) -> Option<(u32, Self)> {
        let mut take = Take::new(bytes);
        let crc = take.u32()?;
        let length = take.u32()?;
        let kind = Kind::from_u8(take.u8()?)?;
        let head = Self {
            length,
            kind,
            flags: take.u8()?,
            route: take.u16()?,
            count: take.u32()?,
            first: take.u64()?,
            time_ns: take.i64()?,
        };
        Some((crc, head))
    }

    /// Whether `frame` (head and body) is what was written at `offset`.
    pub(crate) fn check(frame: &[u8], offset: u32, seed: Seed) -> bool {
        match frame.split_first_chunk::<4>() {
            Some((crc, covered)) => u32::from_le_bytes(*crc) == seed.crc(offset, covered),
            None => false,
        }
    }

    /// Bytes of the whole frame.
    pub(crate) fn size(&self) -> u64 {
        u64::from(FRAME_HEAD) + u64::from(self.length)
    }
}

/// The body of a commit head: everything that is needed to go on from here when what stands before it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The segment's own salt, restated for the case that the header page is lost.
    pub(crate) segment_salt: u64,
    pub(crate) segment: u64,
    pub(crate) run: Run,
    /// Bytes of the segment that were durable when this commit was begun.
    pub(crate) durable: u32,
    /// Where the log was cut before this run began (only with [`FLAG_RUN`]).
    pub(crate) cut: u32,
    pub(crate) age_ms: u64,
    pub(crate) wall_ns: i64,
    /// Next number.
    pub(crate) first: u64,
    pub(crate) opens_run: bool,
    pub(crate) packed: bool,
    pub(crate) synced: bool,
}

impl Commit {
    pub(crate) fn encode(&self) -> (FrameHead, Vec<u8>) {
        let mut body = Vec::with_capacity(COMMIT_BODY as usize);
        body.put_u64(self.segment_salt);
        body.put_u64(self.segment);
        self.run.encode(&mut body);
        body.put_u32(self.durable);
        body.put_u32(self.cut);
        body.put_u64(self.age_ms);
        body.put_i64(self.wall_ns);
        body.put_u64(0);
        let flags = if self.opens_run { FLAG_RUN } else { 0 } | if self.synced { FLAG_SYNCED } else { 0 };
        let flags = flags | if self.packed { FLAG_PACKED } else { 0 };
        let length = len_u32(body.len());
        (FrameHead { length, kind: Kind::Commit, flags, route: 0, count: 0, first: self.first, time_ns: 0 }, body)
    }

    fn decode(head: &FrameHead, body: &[u8]) -> Option<Self> {
        let mut take = Take::new(body);
        let (segment_salt, segment) = (take.u64()?, take.u64()?);
        Some(Self {
            segment_salt,
            segment,
            run: Run::decode(&mut take)?,
            durable: take.u32()?,
            cut: take.u32()?,
            age_ms: take.u64()?,
            wall_ns: take.i64()?,
            first: head.first,
            opens_run: head.flags & FLAG_RUN != 0,
            packed: head.flags & FLAG_PACKED != 0,
            synced: head.flags & FLAG_SYNCED != 0,
        })
    }

    /// The commit head at the start of `page`, if it is one of segment `segment` with `segment_salt`; where these are
    /// not known (the header is lost) its own words are taken.
    pub(crate) fn find(page: &[u8], offset: u32, known: Option<Seed>) -> Option<Self> {
        let frame = page.get(..(FRAME_HEAD + COMMIT_BODY) as usize)?;
        let (_, head) = FrameHead::peek(frame)?;
        if head.kind != Kind::Commit || head.length != COMMIT_BODY {
            return None;
        }
        let commit = Self::decode(&head, frame.get(FRAME_HEAD as usize..)?)?;
        let own = Seed { salt: commit.segment_salt, segment: commit.segment };
        let fits = known.is_none_or(|known| known.salt == own.salt && known.segment == own.segment);
        (fits && FrameHead::check(frame, offset, own)).then_some(commit)
    }
}
