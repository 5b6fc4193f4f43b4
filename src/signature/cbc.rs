//! AES-256 in CBC mode and its padding, as chat platforms use it. No padding is believed until every byte of it was
//! looked at; what does not fit is nothing, never a panic.

use aws_lc_rs::cipher::{
    AES_256, AES_256_KEY_LEN, AES_CBC_IV_LEN, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = AES_256_KEY_LEN;
/// Bytes of an initialization vector, and of a block of the cipher.
pub(super) const IV_BYTES: usize = AES_CBC_IV_LEN;

/// The plaintext with its padding; nothing when the bytes are not whole blocks.
pub(super) fn decrypt(key: &[u8; KEY_BYTES], iv: [u8; IV_BYTES], mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(IV_BYTES) {
        return None;
    }
    let key = DecryptingKey::cbc(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
    key.decrypt(&mut bytes, DecryptionContext::Iv128(FixedLength::from(iv))).ok()?;
    Some(bytes)
}

/// The ciphertext of bytes that are padded already.
pub(super) fn encrypt(key: &[u8; KEY_BYTES], iv: [u8; IV_BYTES], mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let key = EncryptingKey::cbc(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
    key.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(FixedLength::from(iv))).ok()?;
    Some(bytes)
}

/// Fills up to whole blocks of `block_bytes` (PKCS #7, RFC 5652, section 6.3); full blocks get one more.
pub(super) fn pad(bytes: &mut Vec<u8>, block_bytes: u8) {
    let count = block_bytes - u8::try_from(bytes.len() % usize::from(block_bytes)).unwrap_or(0);
    bytes.resize(bytes.len() + usize::from(count), count);
}

/// Without the padding; nothing when it is longer than `block_bytes`, or not the same byte throughout.
pub(super) fn unpadded(bytes: &[u8], block_bytes: u8) -> Option<&[u8]> {
    let count = *bytes.last()?;
    let keep = bytes.len().checked_sub(usize::from(count))?;
    let whole = (1..=block_bytes).contains(&count) && bytes[keep..].iter().all(|byte| *byte == count);
    whole.then_some(&bytes[..keep])
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        HEXLOWER.decode(hex.as_bytes()).unwrap_or_default()
    }

    #[test]
    fn the_published_blocks_come_out() {
        // NIST SP 800-38A, F.2.5 and F.2.6, the first two blocks.
        let key: [u8; KEY_BYTES] =
            std::array::from_fn(|i| bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")[i]);
        let iv: [u8; IV_BYTES] = std::array::from_fn(|i| u8::try_from(i).unwrap_or(0));
        let plain = bytes("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        let sealed = bytes("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d");
        assert_eq!(encrypt(&key, iv, plain.clone()).as_ref(), Some(&sealed));
        assert_eq!(decrypt(&key, iv, sealed.clone()), Some(plain));
        for broken in [&sealed[..0], &sealed[..1], &sealed[..17], &sealed[..31]] {
            assert_eq!(decrypt(&key, iv, broken.to_vec()), None);
        }
    }

    #[track_caller]
    fn check(padded: &[u8], block_bytes: u8, plain: Option<&[u8]>) {
        assert_eq!(unpadded(padded, block_bytes), plain, "{padded:?}");
    }

    #[test]
    fn padding_is_looked_at_whole() {
        check(&[32; 32], 32, Some(&[]));
        check(&[32; 32], 16, None);
        check(&[b'a', 2, 2], 16, Some(b"a"));
        check(&[b'a', 1, 2], 16, None);
        check(&[b'a', 0], 16, None);
        check(&[3, 3], 16, None);
        check(&[33; 64], 32, None);
        check(&[], 32, None);
        for length in 0..80 {
            let mut padded = vec![b'x'; length];
            pad(&mut padded, 32);
            assert_eq!((padded.len() % 32, padded.len() > length), (0, true));
            check(&padded, 32, Some(&vec![b'x'; length]));
        }
    }
}
