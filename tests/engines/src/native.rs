//! The job without a sandbox, from the shared library beside this program: its serde_json has the features that a
//! mapper's has, not the host's.

use std::{
    alloc::{self, Layout},
    env,
};

use anyhow::{Context, Result};
use libloading::Library;

/// As in `native/src/lib.rs`.
#[repr(C)]
struct Memory {
    alloc: unsafe extern "C" fn(usize, usize) -> *mut u8,
    dealloc: unsafe extern "C" fn(*mut u8, usize, usize),
    realloc: unsafe extern "C" fn(*mut u8, usize, usize, usize) -> *mut u8,
}

#[repr(C)]
struct Text {
    start: *mut u8,
    length: usize,
    capacity: usize,
}

type Job = unsafe extern "C" fn(*const u8, usize) -> Text;

#[derive(Clone, Copy, Debug)]
pub struct Native {
    typed: Job,
    value: Job,
}

/// The library frees and allocates with ours: what it returns is ours to free, and nobody's allocator is slower.
static MEMORY: Memory = Memory { alloc: allocate, dealloc: free, realloc: reallocate };

impl Native {
    pub fn load() -> Result<Self> {
        let path = env::current_dir()?.join("native/target/release/libnative.so");
        // SAFETY: our own library, which has no initialisers, and stays loaded; the types are those of its source.
        unsafe {
            let library: &'static Library = Box::leak(Box::new(
                Library::new(&path).with_context(|| format!("{}: `run` builds it", path.display()))?,
            ));
            let use_memory = library.get::<unsafe extern "C" fn(&'static Memory)>("use_memory")?;
            use_memory(&MEMORY);
            Ok(Self { typed: *library.get("typed")?, value: *library.get("value")? })
        }
    }

    pub fn typed(self, payload: &str) -> String {
        call(self.typed, payload)
    }

    pub fn value(self, payload: &str) -> String {
        call(self.value, payload)
    }
}

fn call(job: Job, payload: &str) -> String {
    // SAFETY: the text comes from a `String` that was allocated with our allocator.
    unsafe {
        let Text { start, length, capacity } = job(payload.as_ptr(), payload.len());
        String::from_raw_parts(start, length, capacity)
    }
}

unsafe extern "C" fn allocate(size: usize, align: usize) -> *mut u8 {
    unsafe { alloc::alloc(Layout::from_size_align_unchecked(size, align)) }
}

unsafe extern "C" fn free(piece: *mut u8, size: usize, align: usize) {
    unsafe { alloc::dealloc(piece, Layout::from_size_align_unchecked(size, align)) }
}

unsafe extern "C" fn reallocate(piece: *mut u8, old: usize, align: usize, new: usize) -> *mut u8 {
    unsafe { alloc::realloc(piece, Layout::from_size_align_unchecked(old, align), new) }
}
