//! Keys and what clients do with them.

use bytes::Bytes;

use super::{Handled, done, json, pages};
use crate::{
    api::{
        AnyCase, ApiError, Fault, KeyName,
        message::{Base64, Decrypt, Encrypt, GenerateKey, Hmac, ImportKey},
    },
    authz::{Authorized, action},
    server::{
        body::{parse, parse_or_empty},
        call::Call,
        reply::Reply,
    },
    service::{self, Algorithm, SecretKey, UnknownAlgorithm},
};

/// Most ciphertexts in one bulk request, as in KES.
const MAX_BULK: usize = 1000;

pub(in crate::server) async fn create(
    call: &Call<'_>,
    proof: Authorized<'_, action::CreateKey>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.create_key(&proof, &call.name()?).await)
}

pub(in crate::server) async fn import(
    call: &Call<'_>,
    proof: Authorized<'_, action::ImportKey>,
    body: Bytes,
) -> Handled {
    let name = call.name()?;
    let (secret, algorithm) = imported(&parse(&body)?)?;
    done(call.shared.service.import_key(&proof, &name, secret, algorithm).await)
}

/// The fields of either KES generation, and the refusals of each. Without an algorithm, ciphertexts decide.
fn imported(request: &ImportKey) -> Result<(SecretKey, Option<Algorithm>), ApiError> {
    let ImportKey { bytes, algorithm, key, cipher } = request;
    if bytes.is_empty() && !cipher.is_empty() {
        let refuse = |message| ApiError::new(Fault::NotAcceptable, message);
        let algorithm = cipher.parse().map_err(|error: UnknownAlgorithm| refuse(error.to_string()))?;
        let secret =
            SecretKey::try_from(key.as_ref()).map_err(|error| refuse(format!("{error} for '{cipher}'")))?;
        return Ok((secret, Some(algorithm)));
    }
    let bytes = if bytes.is_empty() { key } else { bytes };
    let secret = SecretKey::try_from(bytes.as_ref()).map_err(|_| ApiError::INVALID_KEY_SIZE)?;
    let algorithm = Algorithm::parse_optional(algorithm)
        .map_err(|error| ApiError::new(Fault::BadRequest, error.to_string()))?;
    Ok((secret, algorithm))
}

pub(in crate::server) fn describe(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DescribeKey>,
    _: &[u8],
) -> Handled {
    json(call.shared.service.describe_key(proof, &call.name()?))
}

pub(in crate::server) async fn delete(
    call: &Call<'_>,
    proof: Authorized<'_, action::DeleteKey>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.delete_key(&proof, &call.name()?).await)
}

pub(in crate::server) fn list(
    call: &Call<'_>,
    proof: &Authorized<'_, action::ListKeys>,
    _: &[u8],
) -> Handled {
    pages(call.shared.service.list_keys(proof, call.argument))
}

pub(in crate::server) fn generate(
    call: &Call<'_>,
    proof: &Authorized<'_, action::GenerateKey>,
    body: &[u8],
) -> Handled {
    let name: KeyName = call.name()?;
    let generate = |context: &[u8]| call.shared.service.generate(proof, &name, context);
    let GenerateKey { context } =
        parse_or_empty(body).map_err(|error| missing_first(error, generate(&[])))?;
    let key = generate(context.as_ref()).map_err(|error| error.to_api())?;
    Ok(Reply::bytes([("plaintext", key.plaintext.as_ref()), ("ciphertext", key.ciphertext.as_ref())]))
}

pub(in crate::server) fn encrypt(
    call: &Call<'_>,
    proof: &Authorized<'_, action::EncryptKey>,
    body: &[u8],
) -> Handled {
    let name: KeyName = call.name()?;
    let encrypt = |plaintext: &Base64, context: &Base64| {
        call.shared.service.encrypt(proof, &name, plaintext.as_ref(), context.as_ref())
    };
    let Encrypt { plaintext, context } =
        parse(body).map_err(|error| missing_first(error, encrypt(&Base64::default(), &Base64::default())))?;
    let ciphertext = encrypt(&plaintext, &context).map_err(|error| error.to_api())?;
    Ok(Reply::bytes([("ciphertext", &ciphertext)]))
}

pub(in crate::server) fn decrypt(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DecryptKey>,
    body: &[u8],
) -> Handled {
    let name: KeyName = call.name()?;
    let decrypt = |ciphertext: &Base64, context: &Base64| {
        call.shared.service.decrypt(proof, &name, ciphertext.as_ref(), context.as_ref())
    };
    let Decrypt { ciphertext, context } =
        parse(body).map_err(|error| missing_first(error, decrypt(&Base64::default(), &Base64::default())))?;
    let plaintext = decrypt(&ciphertext, &context).map_err(|error| error.to_api())?;
    Ok(Reply::bytes([("plaintext", plaintext.as_slice())]))
}

pub(in crate::server) fn hmac(call: &Call<'_>, proof: &Authorized<'_, action::Hmac>, body: &[u8]) -> Handled {
    let name: KeyName = call.name()?;
    let hmac = |message: &[u8]| call.shared.service.hmac(proof, &name, message);
    let Hmac { message } = parse(body).map_err(|error| missing_first(error, hmac(&[])))?;
    let mac = hmac(message.as_ref()).map_err(|error| error.to_api())?;
    Ok(Reply::bytes([("hmac", &mac)]))
}

/// All or nothing, in the order of the request.
pub(in crate::server) fn bulk_decrypt(
    call: &Call<'_>,
    proof: &Authorized<'_, action::BulkDecrypt>,
    body: &[u8],
) -> Handled {
    let name: KeyName = call.name()?;
    let decrypt = |items: &[Decrypt]| call.shared.service.bulk_decrypt(proof, &name, items);
    let items: Vec<AnyCase<Decrypt>> = parse(body).map_err(|error| missing_first(error, decrypt(&[])))?;
    if items.len() > MAX_BULK {
        return Err(ApiError::new(Fault::BadRequest, "too many ciphertexts"));
    }
    let items: Vec<_> = items.into_iter().map(|item| item.0).collect();
    let plaintexts = decrypt(&items).map_err(|error| error.to_api())?;
    Ok(Reply::bytes_array("plaintext", plaintexts.iter().map(|plaintext| plaintext.as_slice())))
}

/// A missing key is told before a malformed body (contract §1.2): `tried` is the same call without input.
fn missing_first<T>(malformed: ApiError, tried: Result<T, service::Error>) -> ApiError {
    match tried.err().map(|error| error.to_api()) {
        Some(missing) if missing == ApiError::KEY_NOT_FOUND => missing,
        _ => malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_import_are_understood() {
        for (body, want) in [
            (r#"{"bytes":"K","algorithm":"AES256-GCM_SHA256"}"#, Ok(Some(Algorithm::Aes256Gcm))),
            (r#"{"bytes":"K"}"#, Ok(None)),
            (r#"{"bytes":"K","algorithm":"undefined"}"#, Ok(None)),
            (r#"{"key":"K","cipher":"ChaCha20"}"#, Ok(Some(Algorithm::XChaCha20Poly1305))),
            (r#"{"key":"YQ==","cipher":"AES256"}"#, Err("invalid key size for 'AES256'")),
            ("{}", Err("invalid key size")),
            (r#"{"key":"K","cipher":"DES"}"#, Err("algorithm 'DES' is not supported")),
        ] {
            let body = body.replace("\"K\"", "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"");
            let got = imported(&parse(body.as_bytes()).unwrap());
            match (got, want) {
                (Ok((_, algorithm)), Ok(want)) => assert_eq!(algorithm, want, "{body}"),
                (Err(error), Err(text)) => assert_eq!(error.message(), text, "{body}"),
                (got, _) => panic!("{body}: {:?}", got.err()),
            }
        }
    }
}
