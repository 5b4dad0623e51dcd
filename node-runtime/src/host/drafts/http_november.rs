//! `wasi:http/types` of November 2023: the options' names ended in `-ms` (and their values were nanoseconds all the same),
//! and the trailers could be asked for without saying whether they were taken before.

use wasmtime::component::Resource;
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::bindings::http::types::{
        Duration, FutureTrailers, HostFutureTrailers as _, HostRequestOptions as _, RequestOptions,
    },
};

use super::Instance;

/// What differs.
pub(super) fn link_types(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "[method]future-trailers.get",
        |mut store, (trailers,): (Resource<FutureTrailers>,)| match store.data_mut().http().get(trailers)? {
            None => Ok((None,)),
            Some(Ok(trailers)) => Ok((Some(trailers),)),
            Some(Err(())) => Err(wasmtime::format_err!("the guest asked for the same trailers twice")),
        },
    )?;
    type Options = Resource<RequestOptions>;
    type Set = (Options, Option<Duration>);
    instance.func_wrap("[method]request-options.connect-timeout-ms", |mut store, (options,): (Options,)| {
        Ok((store.data_mut().http().connect_timeout(options)?,))
    })?;
    instance.func_wrap("[method]request-options.set-connect-timeout-ms", |mut store, (options, to): Set| {
        Ok((store.data_mut().http().set_connect_timeout(options, to)?,))
    })?;
    instance.func_wrap("[method]request-options.first-byte-timeout-ms", |mut store, (options,): (Options,)| {
        Ok((store.data_mut().http().first_byte_timeout(options)?,))
    })?;
    instance.func_wrap("[method]request-options.set-first-byte-timeout-ms", |mut store, (options, to): Set| {
        Ok((store.data_mut().http().set_first_byte_timeout(options, to)?,))
    })?;
    instance.func_wrap("[method]request-options.between-bytes-timeout-ms", |mut store, (options,): (Options,)| {
        Ok((store.data_mut().http().between_bytes_timeout(options)?,))
    })?;
    instance.func_wrap("[method]request-options.set-between-bytes-timeout-ms", |mut store, (options, to): Set| {
        Ok((store.data_mut().http().set_between_bytes_timeout(options, to)?,))
    })
}
