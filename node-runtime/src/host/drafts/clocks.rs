//! `wasi:clocks` of October 2023.

use wasmtime::component::{ComponentType, Lower};
use wasmtime_wasi::{
    clocks::WasiClocksView as _,
    p2::bindings::clocks::{monotonic_clock::Host as _, wall_clock::Datetime},
};

use super::Instance;

/// `subscribe(when, absolute)`, which became two functions.
pub(super) fn link_monotonic(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("subscribe", |mut store, (when, absolute): (u64, bool)| {
        let mut clocks = store.data_mut().clocks();
        let pollable = if absolute { clocks.subscribe_instant(when) } else { clocks.subscribe_duration(when) };
        Ok((pollable?,))
    })
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct TimezoneDisplay {
    #[component(name = "utc-offset")]
    utc_offset: i32,
    name: String,
    #[component(name = "in-daylight-saving-time")]
    in_daylight_saving_time: bool,
}

/// The interface `timezone`, which was left out of the release: guests live in UTC.
pub(super) fn link_timezone(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("display", |_, (_when,): (Datetime,)| {
        Ok((TimezoneDisplay { utc_offset: 0, name: "UTC".to_owned(), in_daylight_saving_time: false },))
    })?;
    instance.func_wrap("utc-offset", |_, (_when,): (Datetime,)| Ok((0_i32,)))
}
