//! Decompressing what comes in pieces: gzip with all its members, and a zip that holds one file, read from its front.
//! What ends before its own end marks say is damaged, however politely the connection closed.

use std::io::Write as _;

use flate2::write::MultiGzDecoder;
use flate2::{Crc, Decompress, FlushDecompress, Status};

/// What to do with the bytes of a download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::tasks) enum Packing {
    /// gzip, and a zip with one file, are recognised by their bytes; everything else stays as it is.
    #[default]
    Auto,
    /// gzip.
    Gzip,
    /// A zip with one file.
    Zip,
    /// Nothing.
    None,
}

/// Why the bytes cannot be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tasks) enum Unfit {
    /// They are not what they should be.
    Damaged(String),
    /// They are a zip with several files.
    SeveralFiles,
}

fn damaged(why: impl Into<String>) -> Unfit {
    Unfit::Damaged(why.into())
}

/// Bytes that may come out of one piece: feed no more than [`PIECE_BYTES`] at once.
pub(in crate::tasks) const PIECE_BYTES: usize = 16 * 1024;

/// A download on its way through decompression.
pub(in crate::tasks) enum Inflate {
    /// The first bytes decide.
    Undecided(Vec<u8>),
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zip(Box<Unzip>),
}

/// Bytes that tell gzip and zip apart from everything else.
const MAGIC_BYTES: usize = 4;

impl Inflate {
    /// `encoded` when the far end said `Content-Encoding: gzip`.
    pub(in crate::tasks) fn new(wanted: Packing, encoded: bool) -> Self {
        match wanted {
            Packing::Auto if encoded => Self::gzip(),
            Packing::Auto => Self::Undecided(Vec::new()),
            Packing::Gzip => Self::gzip(),
            Packing::Zip => Self::Zip(Box::default()),
            Packing::None => Self::Plain,
        }
    }

    fn gzip() -> Self {
        Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
    }

    /// Takes a piece in and adds what came of it to `out`.
    pub(in crate::tasks) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        match self {
            Self::Plain => out.extend_from_slice(piece),
            Self::Gzip(decoder) => {
                decoder.write_all(piece).map_err(|error| damaged(format!("its gzip is damaged: {error}")))?;
                out.append(decoder.get_mut());
            }
            Self::Zip(zip) => zip.push(piece, out)?,
            Self::Undecided(head) => {
                head.extend_from_slice(piece);
                if head.len() >= MAGIC_BYTES {
                    return self.decide(out);
                }
            }
        }
        Ok(())
    }

    fn decide(&mut self, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let Self::Undecided(head) = self else { return Ok(()) };
        let head = std::mem::take(head);
        *self = match head.as_slice() {
            [0x1f, 0x8b, ..] => Self::gzip(),
            [b'P', b'K', 3, 4, ..] => Self::Zip(Box::default()),
            _ => Self::Plain,
        };
        self.push(&head, out)
    }

    /// All pieces are in: adds the rest to `out` and answers the name of the file inside, when there is one.
    pub(in crate::tasks) fn finish(mut self, out: &mut Vec<u8>) -> Result<Option<String>, Unfit> {
        self.decide(out)?;
        match self {
            Self::Undecided(_) | Self::Plain => Ok(None),
            Self::Gzip(decoder) => {
                let rest =
                    decoder.finish().map_err(|error| damaged(format!("its gzip is cut off or damaged: {error}")))?;
                out.extend(rest);
                Ok(None)
            }
            Self::Zip(zip) => zip.finish().map(Some),
        }
    }

    /// Whether it turned out to be compressed.
    pub(in crate::tasks) fn is_compressed(&self) -> bool {
        matches!(self, Self::Gzip(_) | Self::Zip(_))
    }
}

/// A zip with one file, read from its front (APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16).
pub(in crate::tasks) struct Unzip {
    pending: Vec<u8>,
    part: Part,
    entry: Entry,
    crc: Crc,
}

#[derive(Default)]
struct Entry {
    name: String,
    crc: u32,
    size: u64,
    /// The sums stand behind the data.
    sums_behind: bool,
}

enum Part {
    Head,
    Deflated(Box<Decompress>),
    Stored {
        left: u64,
    },
    /// What follows the data: sums, and the central directory.
    Tail,
}

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const SUMS: [u8; 4] = *b"PK\x07\x08";
const HEAD_BYTES: usize = 30;
/// Bytes behind the data of one file that are held: one entry of the directory and its comments.
const TAIL_BYTES_MAX: usize = 256 * 1024;

impl Default for Unzip {
    fn default() -> Self {
        Self { pending: Vec::new(), part: Part::Head, entry: Entry::default(), crc: Crc::new() }
    }
}

impl Unzip {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        self.pending.extend_from_slice(piece);
        loop {
            let before = out.len();
            match &mut self.part {
                Part::Head => {
                    if !self.head()? {
                        return Ok(());
                    }
                }
                Part::Deflated(inflate) => {
                    let (ended, used) = inflate_into(inflate, &self.pending, out)?;
                    self.pending.drain(..used);
                    self.crc.update(&out[before..]);
                    if !ended {
                        return Ok(());
                    }
                    self.part = Part::Tail;
                }
                Part::Stored { left } => {
                    let taken = self.pending.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    out.extend(self.pending.drain(..taken));
                    self.crc.update(&out[before..]);
                    *left -= taken as u64;
                    if *left > 0 {
                        return Ok(());
                    }
                    self.part = Part::Tail;
                }
                Part::Tail if another_follows(&self.pending, self.entry.sums_behind) => {
                    return Err(Unfit::SeveralFiles);
                }
                Part::Tail if self.pending.len() > TAIL_BYTES_MAX => {
                    return Err(damaged("what stands behind the file in the zip is no directory of one file"));
                }
                Part::Tail => return Ok(()),
            }
        }
    }

    /// Reads the head of the file; false when it is not whole yet.
    fn head(&mut self) -> Result<bool, Unfit> {
        if self.pending.len() < HEAD_BYTES {
            return Ok(false);
        }
        let head = &self.pending;
        if head[..4] != LOCAL {
            return Err(damaged("it is not a zip with a file in it"));
        }
        let (flags, method) = (short(head, 6), short(head, 8));
        let (name_bytes, extra_bytes) = (usize::from(short(head, 26)), usize::from(short(head, 28)));
        let whole = HEAD_BYTES + name_bytes + extra_bytes;
        if head.len() < whole {
            return Ok(false);
        }
        let name = String::from_utf8_lossy(&head[HEAD_BYTES..HEAD_BYTES + name_bytes]).into_owned();
        if flags & 1 != 0 {
            return Err(damaged("the zip is encrypted"));
        }
        let sums_behind = flags & 8 != 0;
        let mut packed = u64::from(long(head, 18));
        let mut size = u64::from(long(head, 22));
        if packed == u64::from(u32::MAX) || size == u64::from(u32::MAX) {
            // Zip64: both sizes stand in an extra field, the whole one first.
            let extra = &head[HEAD_BYTES + name_bytes..whole];
            if let Some(field) = extra_field(extra, 1).filter(|field| field.len() >= 16) {
                (size, packed) = (longer(field, 0), longer(field, 8));
            }
        }
        self.entry = Entry { name, crc: long(head, 14), size, sums_behind };
        self.part = match method {
            8 => Part::Deflated(Box::new(Decompress::new(false))),
            0 if sums_behind => return Err(damaged("the zip does not say how long its file is")),
            0 => Part::Stored { left: packed },
            other => return Err(damaged(format!("the zip is packed by method {other}, which is not known here"))),
        };
        self.pending.drain(..whole);
        Ok(true)
    }

    fn finish(self) -> Result<String, Unfit> {
        if !matches!(self.part, Part::Tail) {
            return Err(damaged("the zip is cut off"));
        }
        let tail = &self.pending;
        let central = find(tail, CENTRAL).ok_or_else(|| damaged("the zip is cut off before its directory"))?;
        let end = find(&tail[central..], END).ok_or_else(|| damaged("the zip is cut off in its directory"))? + central;
        if tail.len() < end + 22 {
            return Err(damaged("the zip is cut off at its end"));
        }
        if short(tail, end + 10) != 1 {
            return Err(Unfit::SeveralFiles);
        }
        let mut expected = self.entry.crc;
        if self.entry.sums_behind {
            let at = if tail.starts_with(&SUMS) { 4 } else { 0 };
            if central < at + 4 {
                return Err(damaged("the zip lacks the sums of its file"));
            }
            expected = long(tail, at);
        } else if u32::try_from(self.entry.size).is_ok_and(|size| size != self.crc.amount()) {
            return Err(damaged("the file in the zip is not as long as it says"));
        }
        if expected != self.crc.sum() {
            return Err(damaged("the file in the zip does not have the checksum that it says"));
        }
        Ok(self.entry.name)
    }
}

/// Whether the head of another file stands behind the data of one, or behind its sums: those have a mark or none, and
/// lengths of four bytes or of eight.
fn another_follows(tail: &[u8], sums_behind: bool) -> bool {
    let places: &[usize] = if sums_behind { &[12, 16, 20, 24] } else { &[0] };
    places.iter().any(|at| tail.get(*at..*at + 4) == Some(&LOCAL[..]))
}

/// Inflates all of `input`; answers whether the stream ended, and how much of `input` it took.
fn inflate_into(inflate: &mut Decompress, input: &[u8], out: &mut Vec<u8>) -> Result<(bool, usize), Unfit> {
    let begun = inflate.total_in();
    loop {
        let used = usize::try_from(inflate.total_in() - begun).unwrap_or(input.len());
        out.reserve(PIECE_BYTES);
        let made = inflate.total_out();
        let status = inflate
            .decompress_vec(&input[used..], out, FlushDecompress::None)
            .map_err(|error| damaged(format!("the file in the zip is damaged: {error}")))?;
        let now = usize::try_from(inflate.total_in() - begun).unwrap_or(input.len());
        if status == Status::StreamEnd {
            return Ok((true, now));
        }
        if now == used && inflate.total_out() == made {
            return Ok((false, now));
        }
    }
}

fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]))
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | (u32::from(short(bytes, at + 2)) << 16)
}

fn longer(bytes: &[u8], at: usize) -> u64 {
    u64::from(long(bytes, at)) | (u64::from(long(bytes, at + 4)) << 32)
}

fn find(bytes: &[u8], mark: [u8; 4]) -> Option<usize> {
    bytes.windows(4).position(|window| window == mark)
}

/// The extra field of this number.
fn extra_field(mut extra: &[u8], number: u16) -> Option<&[u8]> {
    while extra.len() >= 4 {
        let (id, length) = (short(extra, 0), usize::from(short(extra, 2)));
        let field = extra.get(4..4 + length)?;
        if id == number {
            return Some(field);
        }
        extra = &extra[4 + length..];
    }
    None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn short_of(number: usize) -> [u8; 2] {
        u16::try_from(number).unwrap().to_le_bytes()
    }

    fn long_of(number: usize) -> u32 {
        u32::try_from(number).unwrap()
    }

    /// A zip as common tools write it; with its sums behind the data when `streamed`.
    fn zip(files: &[(&str, &[u8])], streamed: bool, stored: bool) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (name, content) in files {
            let mut packed = content.to_vec();
            if !stored {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(content).unwrap();
                packed = encoder.finish().unwrap();
            }
            let mut crc = Crc::new();
            crc.update(content);
            let sums = [crc.sum(), long_of(packed.len()), long_of(content.len())];
            let sums: Vec<u8> = sums.iter().flat_map(|n| n.to_le_bytes()).collect();
            let flags: u16 = if streamed { 8 } else { 0 };
            let mut shared = Vec::new();
            shared.extend(20u16.to_le_bytes());
            shared.extend(flags.to_le_bytes());
            shared.extend(if stored { 0u16 } else { 8 }.to_le_bytes());
            shared.extend([0; 4]);
            let head = |sums: &[u8]| {
                let mut head = shared.clone();
                head.extend(sums);
                head.extend(short_of(name.len()));
                head.extend(0u16.to_le_bytes());
                head
            };
            directory.extend(CENTRAL);
            directory.extend(20u16.to_le_bytes());
            directory.extend(head(&sums));
            directory.extend([0; 14]);
            directory.extend(name.as_bytes());
            bytes.extend(LOCAL);
            bytes.extend(head(if streamed { &[0; 12] } else { &sums }));
            bytes.extend(name.as_bytes());
            bytes.extend(packed);
            if streamed {
                bytes.extend(SUMS);
                bytes.extend(&sums);
            }
        }
        bytes.extend(directory);
        bytes.extend(END);
        bytes.extend([0; 4]);
        bytes.extend(short_of(files.len()));
        bytes.extend(short_of(files.len()));
        bytes.extend([0; 10]);
        bytes
    }

    fn inflate(wanted: Packing, bytes: &[u8], step: usize) -> Result<(Vec<u8>, Option<String>), Unfit> {
        let (mut inflate, mut out) = (Inflate::new(wanted, false), Vec::new());
        for piece in bytes.chunks(step) {
            inflate.push(piece, &mut out)?;
        }
        let name = inflate.finish(&mut out)?;
        Ok((out, name))
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &[u8], name: Option<&str>) {
        for step in [1, 7, bytes.len().max(1)] {
            let (out, found) = inflate(Packing::Auto, bytes, step).unwrap();
            assert!(out == expected, "in pieces of {step}");
            assert_eq!(found.as_deref(), name);
        }
    }

    #[test]
    fn whole_ones_come_out() {
        let long: Vec<u8> = (0..200_000u32).flat_map(|n| (n % 251).to_string().into_bytes()).collect();
        check(b"", b"", None);
        check(b"ab", b"ab", None);
        check(b"sku\tqty\r\n", b"sku\tqty\r\n", None);
        check(&gzip(&long), &long, None);
        check(&[gzip(b"one,"), gzip(b"two")].concat(), b"one,two", None);
        for streamed in [false, true] {
            check(&zip(&[("report.csv", &long)], streamed, false), &long, Some("report.csv"));
        }
        check(&zip(&[("a.csv", b"1,2")], false, true), b"1,2", Some("a.csv"));
    }

    #[test]
    fn what_is_cut_anywhere_is_never_taken_for_whole() {
        let text: Vec<u8> = (0..5_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
        for whole in [
            gzip(&text),
            zip(&[("a", &text)], false, false),
            zip(&[("a", &text)], true, false),
            zip(&[("a", &text)], false, true),
        ] {
            for end in MAGIC_BYTES..whole.len() {
                assert!(inflate(Packing::Auto, &whole[..end], 4096).is_err(), "cut at {end} of {}", whole.len());
            }
        }
    }

    #[test]
    fn a_zip_of_several_files_is_told_from_a_damaged_one() {
        for (streamed, stored) in [(false, false), (true, false), (false, true)] {
            let several = zip(&[("[Content_Types].xml", b"<Types/>"), ("xl/workbook.xml", b"<x/>")], streamed, stored);
            for step in [1, 64, several.len()] {
                assert_eq!(inflate(Packing::Auto, &several, step), Err(Unfit::SeveralFiles), "in pieces of {step}");
            }
        }
    }

    #[test]
    fn what_is_damaged_or_not_one_file_is_refused() {
        let mut crc = zip(&[("a", b"some content")], false, true);
        crc[HEAD_BYTES + 3] ^= 1;
        let mut encrypted = zip(&[("a", b"x")], false, false);
        encrypted[6] |= 1;
        for bad in [crc, encrypted, zip(&[("a", b"1"), ("b", b"2")], false, false), zip(&[], false, false)] {
            assert!(inflate(Packing::Zip, &bad, 64).is_err());
        }
        assert!(inflate(Packing::Gzip, b"not gzip at all", 64).is_err());
        let bytes = gzip(b"x");
        assert_eq!(inflate(Packing::None, &bytes, 3).unwrap().0, bytes);
    }
}
