//! PostgreSQL's `NUMERIC` as text. It has up to 131,072 digits, which no number type has.

/// Why bytes are no `NUMERIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no number")]
pub(super) struct NotANumber;

/// The signs (PostgreSQL, `numeric.c`).
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITE: u16 = 0xD000;
const MINUS_INFINITE: u16 = 0xF000;

/// What precedes the digits.
struct Head {
    count: u16,
    weight: i16,
    sign: u16,
    scale: usize,
}

/// What precedes the digits, and those.
fn head(raw: &[u8]) -> Result<(Head, impl Iterator<Item = u16>), NotANumber> {
    let (words, []) = raw.as_chunks::<2>() else { return Err(NotANumber) };
    let mut words = words.iter().map(|word| u16::from_be_bytes(*word));
    let mut next = || words.next().ok_or(NotANumber);
    let (count, weight, sign, scale) = (next()?, next()?.cast_signed(), next()?, usize::from(next()?));
    Ok((Head { count, weight, sign, scale }, words))
}

/// How many bytes the number takes as text, at most: zeros are not sent, so that may be many times more than were received.
pub(super) fn text_size(raw: &[u8]) -> Result<usize, NotANumber> {
    let (Head { weight, scale, .. }, _) = head(raw)?;
    let groups = usize::try_from(i32::from(weight) + 1).unwrap_or_default();
    // A sign and a point; or a word such as `-Infinity`.
    Ok((groups * 4 + scale).saturating_add(12))
}

/// The number in base 10, with as many digits after the point as the column keeps.
///
/// The form is: how many digits of base 10,000 there are, the weight of the first, the sign, how many decimal digits are
/// after the point, then those digits, 2 bytes each.
pub(super) fn decode(raw: &[u8]) -> Result<String, NotANumber> {
    let (Head { count, weight, sign, scale }, words) = head(raw)?;
    match sign {
        0 | NEGATIVE => {}
        NAN => return Ok("NaN".to_owned()),
        INFINITE => return Ok("Infinity".to_owned()),
        MINUS_INFINITE => return Ok("-Infinity".to_owned()),
        _ => return Err(NotANumber),
    }
    let digits: Vec<u16> = words.collect();
    if digits.len() != usize::from(count) || digits.iter().any(|digit| *digit > 9999) {
        return Err(NotANumber);
    }
    // The digit of weight `at`, which may be one that is not sent.
    let digit = |at: i32| usize::try_from(i32::from(weight) - at).ok().and_then(|index| digits.get(index).copied());
    let mut text = String::new();
    if sign == NEGATIVE {
        text.push('-');
    }
    let whole: String = (0..=i32::from(weight)).rev().map(|at| format!("{:04}", digit(at).unwrap_or(0))).collect();
    let whole = whole.trim_start_matches('0');
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        let groups = i32::try_from(scale.div_ceil(4)).map_err(|_| NotANumber)?;
        let fraction: String = (1..=groups).map(|at| format!("{:04}", digit(-at).unwrap_or(0))).collect();
        text.push('.');
        text.push_str(fraction.get(..scale).ok_or(NotANumber)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for (words, expected) in [
            (&[0, 0, 0, 0][..], "0"),
            (&[0, 0, 0, 2], "0.00"),
            (&[2, 0, 0, 2, 12, 3400], "12.34"),
            (&[1, 1, 0, 0, 1], "10000"),
            (&[1, 0xFFFF, 0x4000, 4, 5], "-0.0005"),
            (&[1, 0xFFFE, 0, 8, 5], "0.00000005"),
            (&[0, 0, 0xC000, 0], "NaN"),
            (&[0, 0, 0xF000, 0], "-Infinity"),
        ] {
            assert_eq!(decode(&raw(words)).as_deref(), Ok(expected));
            assert!(text_size(&raw(words)).unwrap() >= expected.len());
        }
    }

    #[test]
    fn the_size_of_the_text_is_known_without_writing_it() {
        let large = raw(&[1, 0x7FFF, 0, 16_383, 1]);
        let text = decode(&large).unwrap();
        assert!(text.len() > 140_000 && text_size(&large).unwrap() >= text.len());
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        for words in [&[0, 0, 0][..], &[1, 0, 0, 0], &[1, 0, 0, 0, 10_000], &[0, 0, 7, 0]] {
            assert_eq!(decode(&raw(words)), Err(NotANumber));
        }
        assert_eq!(decode(&[1]), Err(NotANumber));
    }
}
