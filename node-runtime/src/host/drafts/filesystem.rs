//! `wasi:filesystem/types` of October 2023: it had modes of access, permissions and locks, which the release has not.
//!
//! Modes are ignored where files are opened: what a guest may do is a matter of its mount. Permissions and locks are
//! `unsupported`, as most systems answered then.

use wasmtime::component::{ComponentType, Lift, Resource, flags};
use wasmtime_wasi::{
    filesystem::WasiFilesystemView as _,
    p2::{
        FsResult,
        bindings::filesystem::types::{
            Descriptor, DescriptorFlags, ErrorCode, Host as _, HostDescriptor as _, OpenFlags, PathFlags,
        },
    },
};

use super::{Instance, RuntimeContext};

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

flags! {
    Modes {
        #[component(name = "readable")]
        const READABLE;
        #[component(name = "writable")]
        const WRITABLE;
        #[component(name = "executable")]
        const EXECUTABLE;
    }
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum AccessType {
    #[component(name = "access")]
    Access(Modes),
    #[component(name = "exists")]
    Exists,
}

type Open = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags, Modes);

/// What differs.
pub(super) fn link(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store, (descriptor, path_flags, path, open, flags, _modes): Open| {
            Box::new(async move {
                let context = store.data_mut();
                let opened = context.filesystem().open_at(descriptor, path_flags, path, open, flags).await;
                answer(context, opened)
            })
        },
    )?;
    type Access = (Resource<Descriptor>, PathFlags, String, AccessType);
    instance.func_wrap_async(
        "[method]descriptor.access-at",
        |mut store, (descriptor, path_flags, path, wanted): Access| {
            Box::new(async move {
                let context = store.data_mut();
                let mount = Resource::new_borrow(descriptor.rep());
                let mut filesystem = context.filesystem();
                let found = match (filesystem.stat_at(descriptor, path_flags, path).await, wanted) {
                    (Ok(_), AccessType::Access(modes)) if modes.contains(Modes::WRITABLE) => {
                        let flags = filesystem.get_flags(mount).await;
                        flags.and_then(|flags| {
                            let may = flags.contains(DescriptorFlags::MUTATE_DIRECTORY);
                            if may { Ok(()) } else { Err(ErrorCode::ReadOnly.into()) }
                        })
                    }
                    (found, AccessType::Access(_) | AccessType::Exists) => found.map(|_| ()),
                };
                answer(context, found)
            })
        },
    )?;
    type Change = (Resource<Descriptor>, PathFlags, String, Modes);
    for name in ["change-file-permissions-at", "change-directory-permissions-at"] {
        instance.func_wrap(&format!("[method]descriptor.{name}"), |_, _: Change| unsupported())?;
    }
    for name in ["lock-shared", "lock-exclusive", "try-lock-shared", "try-lock-exclusive", "unlock"] {
        instance.func_wrap(&format!("[method]descriptor.{name}"), |_, _: (Resource<Descriptor>,)| unsupported())?;
    }
    Ok(())
}

fn unsupported() -> Answer<()> {
    Ok((Err(ErrorCode::Unsupported),))
}

/// Sorts out what is the guest's business and what stops it.
fn answer<T>(context: &mut RuntimeContext, result: FsResult<T>) -> Answer<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(context.filesystem().convert_error_code(error)?),)),
    }
}
