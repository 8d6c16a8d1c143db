//! Signs deliveries as the Standard Webhooks specification says, so that receivers can use a ready library.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;

/// Signs with one secret.
#[derive(Clone)]
pub struct Signer(hmac::Key);

impl Signer {
    /// `whsec_` and base64 as the specification writes secrets; any other text is taken byte for byte.
    pub fn new(secret: &str) -> Result<Self, base64::DecodeError> {
        let bytes = match secret.strip_prefix("whsec_") {
            Some(encoded) => BASE64.decode(encoded)?,
            None => secret.as_bytes().to_vec(),
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature`: HMAC-SHA256 over id, timestamp and body.
    ///
    /// The timestamp is signed too, so that a receiver can refuse what is old: a replay.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id, ".", &timestamp.to_string(), ".", body] {
            context.update(part.as_bytes());
        }
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_specifications_example_holds() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_plain_secret_and_its_encoded_form_sign_alike() {
        let plain = Signer::new("secret").unwrap();
        let encoded = Signer::new("whsec_c2VjcmV0").unwrap();
        assert_eq!(plain.sign("a", 1, "{}"), encoded.sign("a", 1, "{}"));
    }
}
