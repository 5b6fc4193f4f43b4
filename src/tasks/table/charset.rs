//! Which charset a file is in, and its text.

use std::io::{self, Read};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{DecoderResult, Encoding, GB18030, GBK, UTF_8, UTF_16BE, UTF_16LE};

/// The charset of a file that begins so: by its mark, then by what its sender said, then by its bytes. `whole` when
/// there is nothing behind `head`.
pub(super) fn find(head: &[u8], whole: bool, named: Option<&'static Encoding>) -> &'static Encoding {
    if let Some((encoding, _)) = Encoding::for_bom(head) {
        return encoding;
    }
    if let Some(named) = named {
        return named;
    }
    // Every second byte of western text in UTF-16 is zero, and no other charset here has zeros.
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count() * 4 > head.len();
    match (zeros(0), zeros(1)) {
        (true, false) => return UTF_16BE,
        (false, true) => return UTF_16LE,
        _ => {}
    }
    // A character may be cut at the end of the head.
    let valid = std::str::from_utf8(head).map_or_else(|error| !whole && error.error_len().is_none(), |_| true);
    if valid {
        return UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(head, whole);
    let found = detector.guess(None, Utf8Detection::Deny);
    // The newer standard holds all of the older one.
    if found == GBK { GB18030 } else { found }
}

/// The text of a file as UTF-8, without the mark at its front.
pub(super) struct Decoded<R> {
    inner: R,
    encoding: &'static Encoding,
    decoder: encoding_rs::Decoder,
    lenient: bool,
    raw: Vec<u8>,
    raw_at: usize,
    raw_end: usize,
    /// Bytes of the file before `raw`.
    before: u64,
    text: Vec<u8>,
    text_at: usize,
    text_end: usize,
    ended: bool,
}

const BUFFER_BYTES: usize = 16 * 1024;

impl<R: Read> Decoded<R> {
    pub(super) fn new(inner: R, encoding: &'static Encoding, lenient: bool) -> Self {
        Self {
            inner,
            encoding,
            decoder: encoding.new_decoder_with_bom_removal(),
            lenient,
            raw: vec![0; BUFFER_BYTES],
            raw_at: 0,
            raw_end: 0,
            before: 0,
            text: vec![0; 3 * BUFFER_BYTES],
            text_at: 0,
            text_end: 0,
            ended: false,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        while self.text_at == self.text_end && !self.ended {
            let mut last = false;
            if self.raw_at == self.raw_end {
                self.before += self.raw_end as u64;
                self.raw_at = 0;
                self.raw_end = self.inner.read(&mut self.raw)?;
                last = self.raw_end == 0;
            }
            let raw = &self.raw[self.raw_at..self.raw_end];
            self.text_at = 0;
            if self.lenient {
                let (result, read, written, _) = self.decoder.decode_to_utf8(raw, &mut self.text, last);
                self.raw_at += read;
                self.text_end = written;
                self.ended = last && result == encoding_rs::CoderResult::InputEmpty;
                continue;
            }
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(raw, &mut self.text, last);
            self.raw_at += read;
            self.text_end = written;
            match result {
                DecoderResult::InputEmpty => self.ended = last,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    let at = self.before + self.raw_at as u64;
                    let name = self.encoding.name();
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("the bytes before byte {at} are no text in {name}; name the `charset` of the file"),
                    ));
                }
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let taken = buf.len().min(self.text_end - self.text_at);
        buf[..taken].copy_from_slice(&self.text[self.text_at..self.text_at + taken]);
        self.text_at += taken;
        Ok(taken)
    }
}
