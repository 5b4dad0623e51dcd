//! From a program's output to a response.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// The beginning of a program's output, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The response's status.
    pub status: StatusCode,
    /// Its headers, in order, repeated ones too.
    pub headers: HeaderMap,
    /// Where in the output the body begins.
    pub body_at: usize,
    /// How many lines were no headers.
    pub skipped: usize,
}

/// Why a program's output is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// None of `content-type`, `location` and `status` is there.
    #[error("{}", Self::NEITHER)]
    Neither,
    /// The `status` is no number of an HTTP status.
    #[error("its status is not a number from 200 to 599")]
    Status,
}

impl ResponseError {
    /// The words of Spin.
    const NEITHER: &str = "Exactly one of 'location' or 'content-type' must be specified";

    /// The status of the response that is sent instead.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Neither => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Status => StatusCode::BAD_GATEWAY,
        }
    }

    /// Its body.
    #[must_use]
    pub const fn body(self) -> &'static str {
        match self {
            Self::Neither => Self::NEITHER,
            Self::Status => "",
        }
    }
}

/// Understands the beginning of a program's output: header lines up to the first empty one. Carriage returns do not matter
/// there. Lines that are no headers, and headers whose name or value HTTP does not allow, are skipped.
///
/// # Errors
/// When there is neither `content-type` nor `location` nor `status`, or the `status` is none.
pub fn response_head(output: &[u8]) -> Result<ResponseHead, ResponseError> {
    let mut head = ResponseHead { status: StatusCode::OK, headers: HeaderMap::new(), body_at: 0, skipped: 0 };
    let mut status = None;
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        head.body_at += line.len();
        let line: Vec<u8> = line.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        if line.is_empty() {
            break;
        }
        match header_line(&line) {
            Some((name, value)) if name == "status" => status = Some(status_code(&value)?),
            // A map of headers has room for some 32,000 names, and a guest may write more.
            Some((name, value)) => head.skipped += usize::from(head.headers.try_append(name, value).is_err()),
            None => head.skipped += 1,
        }
    }
    let location = head.headers.contains_key(header::LOCATION);
    head.status = match status {
        Some(status) => status,
        None if location => StatusCode::FOUND,
        None if head.headers.contains_key(header::CONTENT_TYPE) => StatusCode::OK,
        None => return Err(ResponseError::Neither),
    };
    Ok(head)
}

fn header_line(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(line.get(..colon)?.trim_ascii()).ok()?;
    let value = HeaderValue::from_bytes(line.get(colon + 1..)?.trim_ascii()).ok()?;
    Some((name, value))
}

/// `404` or `404 Not Found`.
fn status_code(value: &HeaderValue) -> Result<StatusCode, ResponseError> {
    let text = value.to_str().map_err(|_| ResponseError::Status)?;
    let code = text.split_ascii_whitespace().next().and_then(|code| code.parse::<u16>().ok());
    code.filter(|code| (200..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(ResponseError::Status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(output: &str) -> Result<(u16, String), ResponseError> {
        let head = response_head(output.as_bytes())?;
        Ok((head.status.as_u16(), output[head.body_at..].to_owned()))
    }

    #[test]
    fn one_of_three_headers_makes_a_response() {
        assert_eq!(head("content-type: a/b\n\nbody\n\n"), Ok((200, "body\n\n".to_owned())));
        assert_eq!(head("Content-Type: a/b\r\n\r\nbody"), Ok((200, "body".to_owned())));
        assert_eq!(head("status: 204\n\n"), Ok((204, String::new())));
        assert_eq!(head("location: /x\n\n"), Ok((302, String::new())));
        assert_eq!(head("x: y\n\nbody"), Err(ResponseError::Neither));
        assert_eq!(head(""), Err(ResponseError::Neither));
        assert_eq!(head("no headers at all"), Err(ResponseError::Neither));
    }

    #[test]
    fn an_explicit_status_wins_in_either_order() {
        for output in ["status: 301\nlocation: /x\n\n", "location: /x\nstatus: 301 Moved\n\n"] {
            assert_eq!(head(output), Ok((301, String::new())));
        }
    }

    #[test]
    fn a_status_that_is_none_is_a_bad_gateway() {
        for status in ["x", "", "99", "100", "600", "70000", "-1"] {
            let error = head(&format!("content-type: a/b\nstatus: {status}\n\n")).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_GATEWAY, "{status}");
        }
        assert_eq!(ResponseError::Neither.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn repeated_headers_are_kept_and_invalid_lines_skipped() {
        let output = b"set-cookie: a\nset-cookie: b\nnot a header\nb\xc3d name: x\nx-v: \xff\ncontent-type: a/b\n\n";
        let head = response_head(output).unwrap();
        assert_eq!(head.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(head.headers["x-v"].as_bytes(), b"\xff");
        assert_eq!((head.skipped, head.headers.len()), (2, 4));
    }

    #[test]
    fn output_without_an_empty_line_is_all_headers() {
        assert_eq!(head("content-type: a/b"), Ok((200, String::new())));
    }

    #[test]
    fn a_program_that_writes_more_headers_than_there_is_room_for_loses_those() {
        use std::fmt::Write as _;
        let mut output = "content-type: text/plain\n".to_owned();
        for number in 0..40_000 {
            writeln!(output, "x-{number}: 1").unwrap();
        }
        let head = response_head(format!("{output}\nbody").as_bytes()).unwrap();
        assert!(head.skipped > 0 && head.headers.contains_key("content-type"));
    }

    proptest! {
        #[test]
        fn any_output_is_a_response_or_an_error(
            lines in prop::collection::vec("(content-type: a/b|status: [0-9]{3}|status: [0-9a-z +-]{0,6}|location: .{0,9}|.{0,20}|[\\x00-\\xff]{0,9})", 0..9),
            end in "\\r?\\n",
            body in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut output = lines.join(&end).into_bytes();
            output.extend(body);
            if let Ok(head) = response_head(&output) {
                prop_assert!((200..600).contains(&head.status.as_u16()));
                prop_assert!(head.body_at <= output.len());
                prop_assert!(!head.headers.contains_key("status"));
            }
        }
    }
}
