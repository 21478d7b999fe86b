//! The job as a shared library that allocates with the allocator of whoever loads it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicPtr, Ordering},
};

/// What the one who loads this allocates with.
#[repr(C)]
pub struct Memory {
    pub alloc: unsafe extern "C" fn(size: usize, align: usize) -> *mut u8,
    pub dealloc: unsafe extern "C" fn(piece: *mut u8, size: usize, align: usize),
    pub realloc: unsafe extern "C" fn(piece: *mut u8, old: usize, align: usize, new: usize) -> *mut u8,
}

/// A `String`, taken apart.
#[repr(C)]
pub struct Text {
    pub start: *mut u8,
    pub length: usize,
    pub capacity: usize,
}

static MEMORY: AtomicPtr<Memory> = AtomicPtr::new(std::ptr::null_mut());

struct Borrowed;

#[global_allocator]
static ALLOCATOR: Borrowed = Borrowed;

// SAFETY: passes everything on to one allocator: nothing is allocated here before `use_memory` was called.
unsafe impl GlobalAlloc for Borrowed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match unsafe { MEMORY.load(Ordering::Relaxed).as_ref() } {
            Some(memory) => unsafe { (memory.alloc)(layout.size(), layout.align()) },
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match unsafe { MEMORY.load(Ordering::Relaxed).as_ref() } {
            Some(memory) => unsafe { (memory.dealloc)(piece, layout.size(), layout.align()) },
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        match unsafe { MEMORY.load(Ordering::Relaxed).as_ref() } {
            Some(memory) => unsafe { (memory.realloc)(piece, layout.size(), layout.align(), new) },
            None => unsafe { System.realloc(piece, layout, new) },
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn use_memory(memory: &'static Memory) {
    MEMORY.store(std::ptr::from_ref(memory).cast_mut(), Ordering::Relaxed);
}

/// # Safety
/// `payload` and `length` are those of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn typed(payload: *const u8, length: usize) -> Text {
    text(job::typed(unsafe { read(payload, length) }))
}

/// # Safety
/// `payload` and `length` are those of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn value(payload: *const u8, length: usize) -> Text {
    text(job::value(unsafe { read(payload, length) }))
}

unsafe fn read<'a>(start: *const u8, length: usize) -> &'a str {
    unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, length)) }
}

fn text<E: std::fmt::Debug>(result: Result<String, E>) -> Text {
    let (start, length, capacity) = result.expect("the payload is a push").into_raw_parts();
    Text { start, length, capacity }
}
