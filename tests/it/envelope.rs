//! The envelope of `DingTalk` events and `WeCom` callbacks from the other side: written anew from the vendors' rule, so that
//! the gateway is not held against its own code.
#![expect(clippy::unwrap_used, reason = "tests")]

use aws_lc_rs::cipher::{
    AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::iv::FixedLength;
use data_encoding::{BASE64, HEXLOWER, Specification};

/// Token, `EncodingAESKey` and receiver of an app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Platform<'a> {
    pub(crate) token: &'a str,
    pub(crate) aes_key: &'a str,
    pub(crate) receiver: &'a str,
}

impl Platform<'_> {
    fn key(&self) -> Vec<u8> {
        let mut loose = Specification::new();
        loose.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
        loose.check_trailing_bits = false;
        loose.encoding().unwrap().decode(self.aes_key.as_bytes()).unwrap()
    }

    fn iv(&self) -> FixedLength<16> {
        FixedLength::from(<[u8; 16]>::try_from(&self.key()[..16]).unwrap())
    }

    /// The ciphertext of a message, in base64; `salt` is what stands before it.
    pub(crate) fn encrypt(&self, message: &str, salt: [u8; 16]) -> String {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let mut plain = [&salt[..], &length, message.as_bytes(), self.receiver.as_bytes()].concat();
        let missing = 32 - plain.len() % 32;
        plain.resize(plain.len() + missing, u8::try_from(missing).unwrap());
        let key = EncryptingKey::cbc(UnboundCipherKey::new(&AES_256, &self.key()).unwrap()).unwrap();
        key.less_safe_encrypt(&mut plain, EncryptionContext::Iv128(self.iv())).unwrap();
        BASE64.encode(&plain)
    }

    /// The message and the receiver of a ciphertext.
    pub(crate) fn decrypt(&self, encrypt: &str) -> (String, String) {
        let mut bytes = BASE64.decode(encrypt.as_bytes()).unwrap();
        assert_eq!(bytes.len() % 32, 0, "the padding runs to 32 bytes");
        let key = DecryptingKey::cbc(UnboundCipherKey::new(&AES_256, &self.key()).unwrap()).unwrap();
        let plain = key.decrypt(&mut bytes, DecryptionContext::Iv128(self.iv())).unwrap();
        let padding = usize::from(*plain.last().unwrap());
        let plain = &plain[16..plain.len() - padding];
        let length = usize::try_from(u32::from_be_bytes(plain[..4].try_into().unwrap())).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&plain[4..4 + length]), text(&plain[4 + length..]))
    }

    pub(crate) fn sign(&self, timestamp: &str, nonce: &str, encrypt: &str) -> String {
        let mut parts = [self.token, timestamp, nonce, encrypt];
        parts.sort_unstable();
        HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, parts.concat().as_bytes()).as_ref())
    }

    /// What an answer of `DingTalk` says, once its signature was checked.
    pub(crate) fn read_json(&self, answer: &str) -> (String, String) {
        let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
        let member = |name: &str| answer[name].as_str().unwrap().to_owned();
        let encrypt = member("encrypt");
        assert_eq!(member("msg_signature"), self.sign(&member("timeStamp"), &member("nonce"), &encrypt));
        self.decrypt(&encrypt)
    }
}
