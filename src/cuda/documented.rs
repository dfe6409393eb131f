//! Compares the shared memory of every launch with docs/kernels.md, from which scripts/kernel-report takes its numbers.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Bytes by the kernel's name without the type, and whether they are an upper limit.
static SHARED: LazyLock<HashMap<String, (usize, bool)>> = LazyLock::new(|| {
    let rows = include_str!("../../docs/kernels.md").lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = cells[1].split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('*').to_owned());
        let unit = if cells[6].ends_with(" B") { 1.0 } else { 1024.0 };
        let numbers = cells[6].split([' ', ',']).filter_map(|word| word.parse().ok());
        let mut sizes: Vec<usize> = numbers.map(|size: f64| (size * unit) as usize).collect();
        if sizes.is_empty() {
            sizes.push(0);
        }
        let most = cells[6].starts_with('≤');
        names.enumerate().map(move |(i, name)| (name, (sizes[i.min(sizes.len() - 1)], most))).collect::<Vec<_>>()
    })
    .collect()
});

/// Fails if a launch's shared memory differs from the document.
pub(super) fn check(kernel: &str, shared_bytes: usize) {
    let name = kernel.strip_suffix("bf16").or(kernel.strip_suffix("f16")).unwrap_or(kernel);
    let (documented, most) = SHARED[name];
    let holds = if most { shared_bytes <= documented } else { shared_bytes == documented };
    assert!(holds, "{kernel} has {shared_bytes} bytes of shared memory, docs/kernels.md says {documented}");
}
