//! `wasi:http` of October 2023: requests and responses are made in one call, headers are not refused, and errors are one of
//! four kinds with a text.

use wasmtime::component::{ComponentType, Lift, Lower, Resource};
use wasmtime_wasi_http::{
    WasiHttpCtxView, WasiHttpView as _,
    p2::{
        HeaderResult,
        bindings::http::{
            outgoing_handler::Host as _,
            types::{
                ErrorCode, Fields, FutureIncomingResponse, FutureTrailers, HeaderError, Host as _, HostFields,
                HostFutureIncomingResponse, HostFutureTrailers, HostOutgoingBody as _, HostOutgoingRequest,
                HostOutgoingResponse, HostResponseOutparam, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
                OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
            },
        },
    },
};

use super::Instance;

/// The draft's `error`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "invalid-url")]
    InvalidUrl(String),
    #[component(name = "timeout-error")]
    Timeout(String),
    #[component(name = "protocol-error")]
    Protocol(String),
    #[component(name = "unexpected-error")]
    Unexpected(String),
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        let text = code.to_string();
        match code {
            ErrorCode::HttpRequestUriInvalid => Self::InvalidUrl(text),
            ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::DnsTimeout
            | ErrorCode::HttpResponseTimeout => Self::Timeout(text),
            ErrorCode::HttpProtocolError => Self::Protocol(text),
            _ => Self::Unexpected(text),
        }
    }
}

impl From<Error> for ErrorCode {
    fn from(error: Error) -> Self {
        let (Error::InvalidUrl(text) | Error::Timeout(text) | Error::Protocol(text) | Error::Unexpected(text)) = error;
        Self::InternalError(Some(text))
    }
}

/// The draft's `request-options`, in milliseconds.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Options {
    #[component(name = "connect-timeout-ms")]
    connect: Option<u32>,
    #[component(name = "first-byte-timeout-ms")]
    first_byte: Option<u32>,
    #[component(name = "between-bytes-timeout-ms")]
    between_bytes: Option<u32>,
}

impl From<Options> for RequestOptions {
    fn from(options: Options) -> Self {
        let time = |ms: Option<u32>| ms.map(|ms| std::time::Duration::from_millis(ms.into()));
        Self {
            connect_timeout: time(options.connect),
            first_byte_timeout: time(options.first_byte),
            between_bytes_timeout: time(options.between_bytes),
        }
    }
}

/// `handle`.
pub(super) fn link_handler(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    type Arguments = (Resource<OutgoingRequest>, Option<Options>);
    instance.func_wrap("handle", |mut store, (request, options): Arguments| {
        let mut http = store.data_mut().http();
        let options = options.map(|options| http.table.push(RequestOptions::from(options))).transpose()?;
        Ok((match http.handle(request, options) {
            Ok(response) => Ok(response),
            Err(error) => Err(Error::from(http.convert_error_code(error)?)),
        },))
    })
}

/// What differs.
pub(super) fn link_types(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    link_fields(instance)?;
    link_outgoing(instance)?;
    link_futures(instance)
}

/// Nothing says whether a header was taken: one that a guest may not set is left out, what is no header stops the guest.
fn settled(http: &mut WasiHttpCtxView<'_>, result: HeaderResult<()>) -> wasmtime::Result<()> {
    let Err(error) = result else { return Ok(()) };
    match http.convert_header_error(error)? {
        HeaderError::Forbidden => Ok(()),
        error => Err(wasmtime::format_err!("the guest set a header that is not valid: {error:?}")),
    }
}

fn link_fields(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("[constructor]fields", |mut store, (entries,): (Vec<(String, Vec<u8>)>,)| {
        let mut http = store.data_mut().http();
        let fields = HostFields::new(&mut http)?;
        for (name, value) in entries {
            let appended = http.append(Resource::new_borrow(fields.rep()), name, value);
            settled(&mut http, appended)?;
        }
        Ok((fields,))
    })?;
    type Set = (Resource<Fields>, String, Vec<Vec<u8>>);
    instance.func_wrap("[method]fields.set", |mut store, (fields, name, values): Set| {
        let mut http = store.data_mut().http();
        let set = HostFields::set(&mut http, fields, name, values);
        settled(&mut http, set)
    })?;
    instance.func_wrap("[method]fields.delete", |mut store, (fields, name): (Resource<Fields>, String)| {
        let mut http = store.data_mut().http();
        let deleted = http.delete(fields, name);
        settled(&mut http, deleted)
    })?;
    type Append = (Resource<Fields>, String, Vec<u8>);
    instance.func_wrap("[method]fields.append", |mut store, (fields, name, value): Append| {
        let mut http = store.data_mut().http();
        let appended = http.append(fields, name, value);
        settled(&mut http, appended)
    })
}

fn link_outgoing(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("[constructor]outgoing-request", |mut store, request: RequestParts| {
        Ok((new_request(&mut store.data_mut().http(), request)?,))
    })?;
    instance.func_wrap("[method]outgoing-request.write", |mut store, (request,): (Resource<OutgoingRequest>,)| {
        Ok((HostOutgoingRequest::body(&mut store.data_mut().http(), request)?,))
    })?;
    instance.func_wrap("[constructor]outgoing-response", |mut store, (status, headers): (u16, Resource<Fields>)| {
        let mut http = store.data_mut().http();
        let headers = http.clone(headers)?;
        let response = HostOutgoingResponse::new(&mut http, headers)?;
        let set = HostOutgoingResponse::set_status_code(&mut http, Resource::new_borrow(response.rep()), status)?;
        set.map_err(|()| wasmtime::format_err!("the guest made a response with the status {status}"))?;
        Ok((response,))
    })?;
    instance.func_wrap(
        "[method]outgoing-response.write",
        |mut store, (response,): (Resource<OutgoingResponse>,)| {
            Ok((HostOutgoingResponse::body(&mut store.data_mut().http(), response)?,))
        },
    )?;
    type Finish = (Resource<OutgoingBody>, Option<Resource<Fields>>);
    instance.func_wrap("[static]outgoing-body.finish", |mut store, (body, trailers): Finish| {
        let mut http = store.data_mut().http();
        // A wrong length is seen by whoever reads the body.
        http.finish(body, trailers).or_else(|error| http.convert_error_code(error).map(|_| ()))
    })?;
    type Set = (Resource<ResponseOutparam>, Result<Resource<OutgoingResponse>, Error>);
    instance.func_wrap("[static]response-outparam.set", |mut store, (outparam, response): Set| {
        HostResponseOutparam::set(&mut store.data_mut().http(), outparam, response.map_err(ErrorCode::from))
    })
}

type RequestParts = (Method, Option<String>, Option<Scheme>, Option<String>, Resource<Fields>);

fn new_request(
    http: &mut WasiHttpCtxView<'_>,
    (method, path, scheme, authority, headers): RequestParts,
) -> wasmtime::Result<Resource<OutgoingRequest>> {
    let headers = http.clone(headers)?;
    let request = HostOutgoingRequest::new(http, headers)?;
    let this = || Resource::new_borrow(request.rep());
    let wrong = |what: &str| wasmtime::format_err!("the guest made a request with a wrong {what}");
    HostOutgoingRequest::set_method(http, this(), method)?.map_err(|()| wrong("method"))?;
    HostOutgoingRequest::set_path_with_query(http, this(), path)?.map_err(|()| wrong("path"))?;
    HostOutgoingRequest::set_scheme(http, this(), scheme)?.map_err(|()| wrong("scheme"))?;
    HostOutgoingRequest::set_authority(http, this(), authority)?.map_err(|()| wrong("authority"))?;
    Ok(request)
}

fn link_futures(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("[method]future-trailers.get", |mut store, (trailers,): (Resource<FutureTrailers>,)| {
        let mut http = store.data_mut().http();
        Ok((match HostFutureTrailers::get(&mut http, trailers)? {
            None => None,
            Some(Ok(Ok(Some(trailers)))) => Some(Ok(trailers)),
            // The draft had no way to say that there are none.
            Some(Ok(Ok(None))) => Some(Ok(HostFields::new(&mut http)?)),
            Some(Ok(Err(code))) => Some(Err(Error::from(code))),
            Some(Err(())) => return Err(wasmtime::format_err!("the guest asked for the same trailers twice")),
        },))
    })?;
    type Response = Option<Result<Result<Resource<IncomingResponse>, Error>, ()>>;
    type Future = Resource<FutureIncomingResponse>;
    instance.func_wrap("[method]future-incoming-response.get", |mut store, (future,): (Future,)| {
        let response = HostFutureIncomingResponse::get(&mut store.data_mut().http(), future)?;
        let response: Response = response.map(|taken| taken.map(|response| response.map_err(Error::from)));
        Ok((response,))
    })
}
