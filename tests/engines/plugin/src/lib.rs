//! The job as a plugin for Extism.

use extism_pdk::{FnResult, plugin_fn};

#[plugin_fn]
pub fn pick(payload: String) -> FnResult<String> {
    Ok(job::typed(&payload)?)
}
