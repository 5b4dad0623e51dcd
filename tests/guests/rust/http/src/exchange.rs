//! One exchange with the host: the query's parameters, the response's head, body and end.

use wasi::http::types::{Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasi::io::streams::{InputStream, OutputStream, StreamError};

/// Why an exchange ended early. The guest can do nothing about any of these.
pub enum Failure {
    /// The host refused a step of the protocol.
    Host,
    /// A stream was closed or broke.
    Stream,
}

impl From<StreamError> for Failure {
    fn from(_: StreamError) -> Self {
        Self::Stream
    }
}

/// The part of a URI after `?`.
pub struct Query<'a>(pub &'a str);

impl Query<'_> {
    /// The parameter as it was sent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The parameter as a number; `default` where it is absent or no number.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// The parameter with `%XX` decoded; empty where absent.
    pub fn decoded(&self, name: &str) -> String {
        let mut bytes = self.get(name).unwrap_or_default().bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            match byte {
                b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                    _ => out.push(b'?'),
                },
                other => out.push(other),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// The response that the host waits for.
pub struct Reply {
    outparam: ResponseOutparam,
}

impl Reply {
    pub fn new(outparam: ResponseOutparam) -> Self {
        Self { outparam }
    }

    /// Sends a text and ends the response.
    pub fn text(self, status: u16, text: &str) -> Result<(), Failure> {
        let mut body = self.start(status)?;
        body.write(text.as_bytes())?;
        body.finish()
    }

    /// Sends a text and one trailer.
    pub fn text_with_trailer(self, text: &str, name: &str, value: &str) -> Result<(), Failure> {
        let mut body = self.start(200)?;
        body.write(text.as_bytes())?;
        let trailers = Fields::from_list(&[(name.to_owned(), value.as_bytes().to_vec())]).map_err(|_| Failure::Host)?;
        body.finish_with(Some(trailers))
    }

    /// Sends the request's body back as it arrives, without holding it.
    pub fn echo(self, request: &IncomingRequest) -> Result<(), Failure> {
        let incoming = request.consume().map_err(|()| Failure::Host)?;
        let mut body = self.start_as(200, "application/octet-stream")?;
        body.splice_all(&incoming)?;
        drop(incoming);
        body.finish()
    }

    /// Sends the head of a text response; the body follows.
    pub fn start(self, status: u16) -> Result<Body, Failure> {
        self.start_as(status, "text/plain")
    }

    /// Sends the head of a response; the body follows.
    pub fn start_as(self, status: u16, content_type: &str) -> Result<Body, Failure> {
        self.start_with(status, vec![("content-type".to_owned(), content_type.as_bytes().to_vec())])
    }

    /// Sends the head of a response with these headers; the body follows.
    pub fn start_with(self, status: u16, headers: Vec<(String, Vec<u8>)>) -> Result<Body, Failure> {
        let response = OutgoingResponse::new(Fields::from_list(&headers).map_err(|_| Failure::Host)?);
        response.set_status_code(status).map_err(|()| Failure::Host)?;
        let body = response.body().map_err(|()| Failure::Host)?;
        let stream = body.write().map_err(|()| Failure::Host)?;
        ResponseOutparam::set(self.outparam, Ok(response));
        Ok(Body { body, stream })
    }
}

/// A body on its way out. Without `finish` the host reports the response as cut short.
pub struct Body {
    body: OutgoingBody,
    stream: OutputStream,
}

impl Body {
    /// Sends bytes and waits until the host took them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // 4096 bytes are the most that the call takes at once.
        for block in bytes.chunks(4096) {
            self.stream.blocking_write_and_flush(block)?;
        }
        Ok(())
    }

    /// Moves an incoming body here, inside the host.
    pub fn splice_all(&mut self, incoming: &IncomingBody) -> Result<(), Failure> {
        let input: InputStream = incoming.stream().map_err(|()| Failure::Host)?;
        loop {
            match self.stream.blocking_splice(&input, u64::MAX) {
                Ok(_) => {}
                Err(StreamError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Moves what is there of a stream, `most` bytes at most.
    pub fn splice(&mut self, input: &InputStream, most: u64) -> Result<(), StreamError> {
        self.stream.blocking_splice(input, most).map(|_| ())
    }

    pub fn finish(self) -> Result<(), Failure> {
        self.finish_with(None)
    }

    /// Ends it, maybe with trailers.
    pub fn finish_with(self, trailers: Option<Fields>) -> Result<(), Failure> {
        drop(self.stream);
        OutgoingBody::finish(self.body, trailers).map_err(|_| Failure::Host)
    }
}
