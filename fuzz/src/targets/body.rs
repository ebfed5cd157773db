//! JSON bodies: read as a plain JSON reader reads them, and what is written is read again.

use kes::{
    api::message::{AssignPolicy, Base64, CreateEnclave, Decrypt, Encrypt, GenerateKey, ImportKey, Policy},
    server::probe,
};
use serde::de::IgnoredAny;
use serde_json::Value;

/// The first byte chooses the type of the body, the rest is the body.
pub(super) fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let reference = first_value(body);
    match kind % 7 {
        0 => check::<GenerateKey>(body, reference.as_ref(), |it| vec![("context", &it.context)]),
        1 => check::<Encrypt>(body, reference.as_ref(), |it| {
            vec![("plaintext", &it.plaintext), ("context", &it.context)]
        }),
        2 => check::<Decrypt>(body, reference.as_ref(), |it| {
            vec![("ciphertext", &it.ciphertext), ("context", &it.context)]
        }),
        3 => check::<ImportKey>(body, reference.as_ref(), |it| vec![("bytes", &it.bytes), ("key", &it.key)]),
        4 => policy(body),
        5 => {
            if let Ok(assigned) = probe::body::<AssignPolicy>(body) {
                kes::api::name::check_name(assigned.identity.as_str()).expect("an identity is a name");
            }
        }
        _ => {
            if let Ok(created) = probe::body::<CreateEnclave>(body) {
                kes::api::name::check_name(created.admin.as_str()).expect("an identity is a name");
            }
        }
    }
}

fn first_value(body: &[u8]) -> Option<Value> {
    serde_json::Deserializer::from_slice(body).into_iter::<Value>().next()?.ok()
}

fn check<T>(body: &[u8], reference: Option<&Value>, fields: impl Fn(&T) -> Vec<(&'static str, &Base64)>)
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    // a field that nobody asks for is skipped, also when it holds what is no text
    if std::str::from_utf8(body).is_err() {
        return;
    }
    let Ok(read) = probe::body::<T>(body) else { return };
    // so is what nobody could keep: a number beyond all measure, half a character, a thousand brackets
    let skipped = serde_json::Deserializer::from_slice(body).into_iter::<IgnoredAny>().next();
    if reference.is_none()
        && skipped.is_some_and(|it| it.is_ok())
        && body.trim_ascii_start().starts_with(b"{")
    {
        return;
    }
    let Some(Value::Object(object)) = reference else {
        panic!("{} is no object and was read", String::from_utf8_lossy(body));
    };
    for (name, bytes) in fields(&read) {
        // the reader refuses a field that is given twice, in whatever case
        let given: Vec<_> = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).collect();
        match given[..] {
            [] | [(_, Value::Null)] => assert!(bytes.is_empty(), "{name}"),
            [(_, Value::String(text))] => assert_eq!(decode(text).as_deref(), Some(bytes.as_ref()), "{name}"),
            _ => panic!("{name} was read from {given:?}"),
        }
    }
    let written = serde_json::to_vec(&read).expect("a message is JSON");
    let again: T = probe::body(&written).unwrap_or_else(|_| panic!("what was written is read"));
    for ((name, one), (_, other)) in fields(&read).into_iter().zip(fields(&again)) {
        assert!(one == other, "{name}");
    }
}

fn policy(body: &[u8]) {
    let Ok(read) = probe::body::<Policy>(body) else { return };
    let written = serde_json::to_vec(&read).expect("a message is JSON");
    let again: Policy = probe::body(&written).unwrap_or_else(|_| panic!("what was written is read"));
    assert_eq!(read, again);
}

/// Padded base64 (RFC 4648 §4) by hand, with line breaks anywhere and any bits after the last byte, as Go takes it.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = text.replace(['\r', '\n'], "");
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.trim_end_matches('=');
    if text.len() - body.len() > 2 {
        return None;
    }
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::new());
    for c in body.bytes() {
        let value = ALPHABET.iter().position(|known| *known == c)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}
