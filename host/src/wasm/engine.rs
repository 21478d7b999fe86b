//! How mappers are compiled and run: the engine's settings, the same for the host and for the child that compiles.

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
    WasmBacktraceDetails,
};

use super::Limits;

/// What an engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Epochs only: the cheapest way to stop a mapper.
    Serve,
    /// Counts fuel as well: a cost that is the same on every machine, for `pack test`.
    Measure,
}

/// Core instances in one component; Python's has 38.
pub(super) const CORE_INSTANCES_MAX: u32 = 100;
/// Memories and tables of one component.
pub(super) const MEMORIES_MAX: u32 = 8;
pub(super) const TABLES_MAX: u32 = 16;
/// Of the pages that a call has touched, so many bytes stay for the next: it need not fault them in again.
const KEEP_RESIDENT: usize = 4 << 20;

/// An engine that runs up to `slots` mappers at a time, each in memory that was made before.
pub(super) fn pooled(limits: &Limits, purpose: Purpose, slots: u32) -> Result<Engine> {
    // Where the kernel can tell which pages were touched (6.7), only those are put back; elsewhere clearing
    // megabytes after each call would cost more than faulting them in.
    let with = |scan: Enabled, keep: usize| {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(slots)
            .total_core_instances(slots * CORE_INSTANCES_MAX)
            .max_core_instances_per_component(CORE_INSTANCES_MAX)
            .total_memories(slots * MEMORIES_MAX)
            .max_memories_per_component(MEMORIES_MAX)
            .max_memories_per_module(MEMORIES_MAX)
            .total_tables(slots * TABLES_MAX)
            .max_tables_per_component(TABLES_MAX)
            .max_tables_per_module(TABLES_MAX)
            .table_elements(limits.table_elements_max)
            .max_memory_size(limits.memory_bytes_max)
            .linear_memory_keep_resident(keep)
            .table_keep_resident(keep.min(64 << 10))
            .pagemap_scan(scan);
        let mut config = settings(limits, purpose);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Engine::new(&config)
    };
    with(Enabled::Yes, KEEP_RESIDENT).or_else(|_| with(Enabled::No, 0))
}

/// An engine that only compiles: its artefacts run in a pooled one of the same purpose.
pub(super) fn compiling(limits: &Limits, purpose: Purpose) -> Result<Engine> {
    Engine::new(&settings(limits, purpose))
}

fn settings(limits: &Limits, purpose: Purpose) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(purpose == Purpose::Measure)
        .max_wasm_stack(limits.stack_bytes_max)
        .memory_init_cow(true)
        // Nobody could read a backtrace of somebody else's stripped component, and it costs on every trap.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(None)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        // With it off, wasmtime 48 panics while it compiles composed components.
        .wasm_multi_memory(true);
    config
}
