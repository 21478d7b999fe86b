//! What one call may take: memory and tables over all modules of a component, counted while they grow.

use wasmtime::{ResourceLimiter, Result};

use super::{
    Limits,
    engine::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX},
};

/// Counts what a component holds. Wasmtime's own limits count each memory for itself; a component with eight of
/// them would have eight times as much.
#[derive(Debug)]
pub(super) struct Meter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    /// The setting that the component ran into. An allocator that then made do with less is all right again.
    pub(super) reached: Option<&'static str>,
}

impl Meter {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: 0,
            memory_bytes_max: limits.memory_bytes_max,
            table_elements: 0,
            table_elements_max: limits.table_elements_max,
            reached: None,
        }
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            self.reached = Some("mapper_memory_bytes_max");
            return Ok(false);
        }
        self.memory_bytes = total;
        self.reached = None;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > self.table_elements_max {
            self.reached = Some("mapper_table_elements_max");
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}
