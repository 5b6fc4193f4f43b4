//! The envelope that `DingTalk` events and `WeCom` callbacks share: a token signs it, an AES key encrypts it, and the name of
//! its receiver is inside. The answer goes back in one as well.
//!
//! The rule, from the vendors' own libraries (open-dingtalk/DingTalk-Callback-Crypto, weworkapi): the signature is
//! hex(SHA-1) of token, timestamp, nonce and ciphertext, sorted and joined. AES-256-CBC; the key is the 43 characters and
//! `=` out of base64, the vector its first 16 bytes. Inside: 16 random bytes, the length of the message in bytes
//! (big-endian, 32 bits), the message, the receiver; padded to 32 bytes.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use data_encoding::{BASE64, Encoding, HEXLOWER};

use super::cbc;
use super::inbound::{RANDOM_BYTES, Reject};
use super::keys::{self, KeyError, Keys};

/// The names of the two secrets, as the vectors have them.
pub(super) const TOKEN: &str = "token";
pub(super) const AES_KEY: &str = "encoding_aes_key";

/// Characters of an `EncodingAESKey`.
const KEY_CHARS: usize = 43;
/// Random bytes before the length.
const RANDOM: usize = 16;
/// The padding runs to this, not to the block of the cipher.
const PADDED_TO: u8 = 32;

/// What was sent beside the route's path, as it stands there.
pub(super) struct Sent<'a> {
    /// Hex digits.
    pub(super) signature: &'a str,
    pub(super) timestamp: &'a str,
    pub(super) nonce: &'a str,
    /// The ciphertext in base64, as signed.
    pub(super) encrypt: &'a str,
}

/// An envelope that was opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) message: String,
    /// The receiver that the sender wrote into it; one of ours.
    pub(super) receiver: String,
    /// The place of the pair of token and key that fits.
    pub(super) key_index: usize,
}

/// An envelope to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) signature: String,
    pub(super) nonce: String,
    pub(super) encrypt: String,
}

/// Pairs of token and key, and the receivers that we are.
pub(super) struct Envelope {
    pairs: Vec<Pair>,
    receivers: Vec<String>,
}

struct Pair {
    token: Vec<u8>,
    key: [u8; cbc::KEY_BYTES],
}

impl Envelope {
    /// Pairs the tokens with the keys, place by place.
    pub(super) fn prepare(keys: &Keys<'_>, receivers: &[String]) -> Result<Self, KeyError> {
        let (tokens, aes) = (keys.required(TOKEN)?, keys.required(AES_KEY)?);
        if tokens.len() != aes.len() {
            let (ones, others) = (tokens.len(), aes.len());
            return Err(KeyError::Unpaired { one: TOKEN, ones, other: AES_KEY, others });
        }
        let pair = |(place, (token, aes)): (usize, (&&[u8], &&[u8]))| {
            let key = aes_key(aes).map_err(|problem| KeyError::Bad { name: AES_KEY, place, problem })?;
            Ok(Pair { token: token.to_vec(), key })
        };
        let pairs = tokens.iter().zip(aes).enumerate().map(pair).collect::<Result<_, KeyError>>()?;
        Ok(Self { pairs, receivers: receivers.to_vec() })
    }

    /// Checks the signature with every token, and opens the envelope with the key that belongs to the one that fits.
    pub(super) fn open(&self, sent: &Sent<'_>) -> Result<Opened, Reject> {
        let claimed = keys::Encoding::HexLower.decode(sent.signature.as_bytes());
        let claimed = claimed.ok_or_else(|| Reject::malformed("signature", "a signature in lower-case hex"))?;
        // Some senders break the base64 into lines; which of the two forms they signed, the signature tells.
        let unbroken: String = sent.encrypt.split_ascii_whitespace().collect();
        let mut reject = Reject::WrongSignature;
        for (key_index, pair) in self.pairs.iter().enumerate() {
            let fits = |text: &str| {
                let digest = digest(&pair.token, sent.timestamp, sent.nonce, text);
                verify_slices_are_equal(digest.as_ref(), &claimed).is_ok()
            };
            let is_broken = unbroken.len() != sent.encrypt.len();
            let signed = fits(sent.encrypt) || (is_broken && fits(&unbroken));
            if !signed {
                continue;
            }
            // A token may stay while its key rotates, so the next pair may still open what this one does not.
            reject = match pair.open(&unbroken) {
                Some((message, receiver)) if self.receivers.contains(&receiver) => {
                    return Ok(Opened { message, receiver, key_index });
                }
                Some(_) => Reject::OtherReceiver,
                None => Reject::Undecipherable,
            };
        }
        Err(reject)
    }

    /// Encrypts and signs an answer with the pair that opened the request.
    pub(super) fn seal(
        &self,
        opened: &Opened,
        message: &str,
        timestamp: &str,
        random: [u8; RANDOM_BYTES],
    ) -> Option<Sealed> {
        let pair = self.pairs.get(opened.key_index)?;
        let (before, nonce) = random.split_at(RANDOM);
        let mut plain = before.to_vec();
        plain.extend(u32::try_from(message.len()).ok()?.to_be_bytes());
        plain.extend(message.as_bytes());
        plain.extend(opened.receiver.as_bytes());
        cbc::pad(&mut plain, PADDED_TO);
        let encrypt = BASE64.encode(&cbc::encrypt(&pair.key, pair.iv(), plain)?);
        let nonce = HEXLOWER.encode(nonce);
        let signature = HEXLOWER.encode(digest(&pair.token, timestamp, &nonce, &encrypt).as_ref());
        Some(Sealed { signature, nonce, encrypt })
    }
}

impl Pair {
    fn iv(&self) -> [u8; cbc::IV_BYTES] {
        std::array::from_fn(|place| self.key[place])
    }

    /// The message and its receiver.
    fn open(&self, encrypt: &str) -> Option<(String, String)> {
        let padded = cbc::decrypt(&self.key, self.iv(), BASE64.decode(encrypt.as_bytes()).ok()?)?;
        let plain = cbc::unpadded(&padded, PADDED_TO)?;
        let (length, rest) = plain.get(RANDOM..)?.split_first_chunk::<4>()?;
        let (message, receiver) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some((String::from_utf8(message.to_vec()).ok()?, String::from_utf8(receiver.to_vec()).ok()?))
    }
}

fn digest(token: &[u8], timestamp: &str, nonce: &str, encrypt: &str) -> aws_lc_rs::digest::Digest {
    let mut parts = [token, timestamp.as_bytes(), nonce.as_bytes(), encrypt.as_bytes()];
    parts.sort_unstable();
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    context.finish()
}

/// The 32 bytes that 43 characters stand for. The last character has two bits too many, and the platforms set them as
/// they like: a strict decoder fails on their own sample.
fn aes_key(value: &[u8]) -> Result<[u8; cbc::KEY_BYTES], &'static str> {
    if value.len() != KEY_CHARS {
        return Err("is not an AES key of 43 characters: copy `EncodingAESKey` whole, without spaces or a line break");
    }
    let mut loose = BASE64.specification();
    loose.padding = None;
    loose.check_trailing_bits = false;
    let decoded = loose.encoding().ok().and_then(|encoding: Encoding| encoding.decode(value).ok());
    decoded
        .and_then(|bytes| <[u8; cbc::KEY_BYTES]>::try_from(bytes).ok())
        .ok_or("is not an AES key: it may only hold letters, digits, `+` and `/`")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const KEY: &str = "4g5j64qlyl3zvetqxz5jiocdr586fn2zvjpa8zls3ij";
    const OTHER: &str = "VDpFabkzoW1XWzO8bWTwfVu1hwlqQaJT2Gig21pJnLC";
    const RANDOM_24: [u8; RANDOM_BYTES] = *b"0123456789abcdef01234567";

    fn envelope(pairs: &[(&str, &str)], receivers: &[&str]) -> Result<Envelope, KeyError> {
        let mut keys = Keys::default();
        for (token, aes) in pairs {
            keys.add(TOKEN, token.as_bytes());
            keys.add(AES_KEY, aes.as_bytes());
        }
        Envelope::prepare(&keys, &receivers.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn opened(key_index: usize, receiver: &str) -> Opened {
        Opened { message: String::new(), receiver: receiver.to_owned(), key_index }
    }

    /// Seals with the last of the pairs `by`, and opens with `with`, whose one receiver is `corp`.
    #[track_caller]
    fn check(by: (&str, &str), with: &[(&str, &str)], message: &str, expected: Result<(&str, usize), &str>) {
        let sender = envelope(&[by], &["corp"]).unwrap();
        let sealed = sender.seal(&opened(0, "corp"), message, "17", RANDOM_24).unwrap();
        let found = open(&envelope(with, &["corp"]).unwrap(), &sealed);
        let found = found.as_ref().map(|opened| (opened.message.as_str(), opened.key_index));
        assert_eq!(found.map_err(Reject::code), expected);
    }

    fn open(envelope: &Envelope, sealed: &Sealed) -> Result<Opened, Reject> {
        let Sealed { signature, nonce, encrypt } = sealed;
        envelope.open(&Sent { signature, timestamp: "17", nonce, encrypt })
    }

    #[test]
    fn what_is_sealed_opens_with_its_own_pair() {
        let (one, two) = (("t1", KEY), ("t2", OTHER));
        // Every length of the last block: the padding runs from 1 to 32.
        for length in 0..=70 {
            check(one, &[one], &"m".repeat(length), Ok((&"m".repeat(length), 0)));
        }
        check(one, &[one], "订单已发货", Ok(("订单已发货", 0)));
        check(two, &[one, two], "m", Ok(("m", 1)));
        check(two, &[one], "m", Err("wrong_signature"));
        // Token and key of different pairs do not go together, but the same token may stand with two keys.
        check(("t1", OTHER), &[one, two], "m", Err("undecipherable"));
        check(("t1", OTHER), &[one, ("t1", OTHER)], "m", Ok(("m", 1)));
    }

    #[test]
    fn the_receiver_has_to_be_one_of_ours() {
        let sender = envelope(&[("t", KEY)], &[]).unwrap();
        let sent_to = |receiver: &str| sender.seal(&opened(0, receiver), "m", "17", RANDOM_24).unwrap();
        let ours = envelope(&[("t", KEY)], &["corp", "suite"]).unwrap();
        assert_eq!(open(&ours, &sent_to("suite")).unwrap().receiver, "suite");
        for other in ["", "cor", "corpo", "Corp", "corp\0"] {
            assert_eq!(open(&ours, &sent_to(other)), Err(Reject::OtherReceiver), "{other:?}");
        }
        // A smart bot's messages name nobody.
        assert_eq!(open(&envelope(&[("t", KEY)], &[""]).unwrap(), &sent_to("")).unwrap().receiver, "");
    }

    #[test]
    fn lines_in_the_ciphertext_do_not_matter() {
        let envelope = envelope(&[("t", KEY)], &["corp"]).unwrap();
        let sealed = envelope.seal(&opened(0, "corp"), &"m".repeat(90), "17", RANDOM_24).unwrap();
        let lines: Vec<_> = sealed.encrypt.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
        for broken in [lines.join("\n"), lines.join("\r\n"), format!("{}\n", sealed.encrypt)] {
            // Signed before it was broken into lines, and after.
            let after = HEXLOWER.encode(digest(b"t", "17", &sealed.nonce, &broken).as_ref());
            for signature in [sealed.signature.clone(), after] {
                let sent = Sealed { signature, nonce: sealed.nonce.clone(), encrypt: broken.clone() };
                assert_eq!(open(&envelope, &sent).unwrap().message, "m".repeat(90));
            }
        }
    }

    #[test]
    fn what_does_not_hold_together_is_refused() {
        let envelope = envelope(&[("t", KEY)], &["corp"]).unwrap();
        let key = aes_key(KEY.as_bytes()).unwrap();
        let iv = std::array::from_fn(|place| key[place]);
        let sent = |plain: &[u8]| {
            let encrypt = BASE64.encode(&cbc::encrypt(&key, iv, plain.to_vec()).unwrap());
            let signature = HEXLOWER.encode(digest(b"t", "17", "n", &encrypt).as_ref());
            open(&envelope, &Sealed { signature, nonce: "n".to_owned(), encrypt }).map_err(|reject| reject.code())
        };
        let padded = |length: u32, rest: &[u8]| {
            let mut plain = [&[b'r'; 16][..], &length.to_be_bytes(), rest].concat();
            cbc::pad(&mut plain, 32);
            plain
        };
        assert_eq!(sent(&padded(1, b"mcorp")).unwrap().message, "m");
        // A pad of one cipher block is as good: some libraries stop there.
        let mut short = [&[b'r'; 16][..], &1_u32.to_be_bytes(), b"mcorp"].concat();
        cbc::pad(&mut short, 16);
        assert_eq!(sent(&short).unwrap().message, "m");
        let mut bad_pad = padded(1, b"mcorp");
        *bad_pad.last_mut().unwrap() = 33;
        let mut uneven = padded(1, b"mcorp");
        let place = uneven.len() - 2;
        uneven[place] ^= 1;
        for broken in [
            padded(6, b"mcorp"),
            padded(u32::MAX, b"mcorp"),
            padded(1, b"\xffcorp"),
            padded(1, b"m\xff"),
            bad_pad,
            uneven,
            vec![32; 32],
            vec![16; 16],
            vec![1; 16],
        ] {
            assert_eq!(sent(&broken), Err("undecipherable"), "{broken:?}");
        }
        let signed = |encrypt: &str| {
            let signature = HEXLOWER.encode(digest(b"t", "17", "n", encrypt).as_ref());
            let sealed = Sealed { signature, nonce: "n".to_owned(), encrypt: encrypt.to_owned() };
            open(&envelope, &sealed).map_err(|reject| reject.code())
        };
        for broken in ["", "=", "AAAA", "not base64", "AAAAAAAAAAAAAAAAAAAAAAA="] {
            assert_eq!(signed(broken), Err("undecipherable"), "{broken:?}");
        }
        let sealed = envelope.seal(&opened(0, "corp"), "m", "17", RANDOM_24).unwrap();
        for signature in ["", "zz", &sealed.signature.to_uppercase(), &format!("{}00", sealed.signature)] {
            let sent = Sealed {
                signature: signature.to_owned(),
                ..envelope.seal(&opened(0, "corp"), "m", "17", RANDOM_24).unwrap()
            };
            assert!(open(&envelope, &sent).is_err(), "{signature}");
        }
    }

    #[test]
    fn keys_are_43_characters_whatever_their_last_bits() {
        // The last character of the official sample leaves bits over.
        assert!(data_encoding::BASE64_NOPAD.decode(KEY.as_bytes()).is_err());
        assert_eq!(aes_key(KEY.as_bytes()).map(|key| key.len()), Ok(32));
        let problem =
            |pairs: &[(&str, &str)]| envelope(pairs, &[]).err().map(|error| error.to_string()).unwrap_or_default();
        for wrong in [&KEY[..42], &format!("{KEY}="), &format!("{KEY}\n"), "short"] {
            let told = problem(&[("t", KEY), ("t", wrong)]);
            assert!(told.starts_with("value 2 of the secret `encoding_aes_key` is not an AES key of 43"), "{told}");
        }
        assert!(problem(&[("t", &"-".repeat(43))]).contains("letters, digits"));
        let mut keys = Keys::default();
        keys.add(TOKEN, b"t");
        keys.add(AES_KEY, KEY.as_bytes());
        keys.add(AES_KEY, KEY.as_bytes());
        let told = Envelope::prepare(&keys, &[]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.starts_with("`token` has 1 values and `encoding_aes_key` has 2"), "{told}");
    }
}
