//! How much more memory this process can take, and how much room a disk has.
//!
//! Linux promises more memory than it has, and kills a process that uses it. So whoever takes much memory asks here first. What
//! counts is the machine's memory, the limits of the process's control groups (those of a container, for instance), and its own
//! limits (`ulimit -v`).

use crate::error::{Error, Relief, Result};
use std::path::Path;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What is free now.
    pub free: u64,
    /// What there is, used or not.
    pub all: u64,
}

impl Room {
    /// The memory of now, if the system tells it. Linux does.
    pub fn now() -> Option<Self> {
        #[cfg(target_os = "linux")]
        return linux::room();
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Whether `more` bytes can be used. `held` are allocated, but the system counts untouched pages of them as free.
    pub fn has(&self, held: u64, more: u64) -> bool {
        more <= self.free && held.saturating_add(more) <= self.all
    }
}

/// Bytes that the process's own limits leave, touched or not; the largest number if there is no limit.
pub fn addresses() -> u64 {
    #[cfg(target_os = "linux")]
    return linux::addresses();
    #[cfg(not(target_os = "linux"))]
    u64::MAX
}

/// The bytes that this user may still write in a folder, if the system says so.
#[cfg(unix)]
pub fn on_disk(folder: &Path) -> Option<u64> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Some network file systems know no sizes.
    let found = rustix::fs::statvfs(folder).ok().filter(|found| found.f_blocks > 0)?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
pub fn on_disk(_: &Path) -> Option<u64> {
    None
}

/// Checks that `more` bytes can be used beside `held` ones that may be untouched.
///
/// # Errors
/// [`Error::OutOfMemory`] for `stage`.
pub fn check(stage: &str, held: u64, more: u64) -> Result<()> {
    match Room::now() {
        Some(room) if !room.has(held, more) => Err(Error::OutOfMemory {
            stage: stage.into(),
            needed: held.saturating_add(more),
            free: room.all.min(held.saturating_add(room.free)),
            relief: Relief::Video,
        }),
        _ => Ok(()),
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::Room;
    use std::fs::read_to_string;
    use std::path::{Path, PathBuf};

    pub(super) fn room() -> Option<Room> {
        let mut room = machine(&read_to_string("/proc/meminfo").ok()?)?;
        for (group, names) in groups(&read_to_string("/proc/self/cgroup").unwrap_or_default()) {
            room = names.narrow(room, &group);
        }
        Some(Room { free: room.free.min(addresses()), ..room })
    }

    pub(super) fn addresses() -> u64 {
        let read = |name| read_to_string(name).unwrap_or_default();
        own(&read("/proc/self/limits"), &read("/proc/self/status"))
    }

    /// A number of KiB in a line with a name and a colon, in bytes.
    fn kib(text: &str, name: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok().map(|kib: u64| kib << 10)
    }

    /// Memory and swap space, as `/proc/meminfo` tells them.
    fn machine(meminfo: &str) -> Option<Room> {
        let swap = |name| kib(meminfo, name).unwrap_or(0);
        Some(Room {
            free: kib(meminfo, "MemAvailable")? + swap("SwapFree"),
            all: kib(meminfo, "MemTotal")? + swap("SwapTotal"),
        })
    }

    /// What the process's own limits leave.
    fn own(limits: &str, status: &str) -> u64 {
        let left = |(limit, used)| {
            let limit: u64 =
                limits.lines().find_map(|line| line.strip_prefix(limit)?.split_whitespace().next()?.parse().ok())?;
            Some(limit.saturating_sub(kib(status, used)?))
        };
        [("Max address space", "VmSize"), ("Max data size", "VmData")]
            .into_iter()
            .filter_map(left)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Files of a control group's memory.
    struct Names {
        limit: &'static str,
        used: &'static str,
        /// Cached files in `memory.stat`: the system takes them back.
        cached: [&'static str; 2],
    }

    const V1: Names = Names {
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        cached: ["total_inactive_file ", "total_active_file "],
    };
    const V2: Names = Names { limit: "memory.max", used: "memory.current", cached: ["inactive_file ", "active_file "] };

    /// The control groups that a process is in, itself and all above it. In a container the path may be one of the machine outside;
    /// then the container's own group is the root.
    fn groups(cgroup: &str) -> Vec<(PathBuf, Names)> {
        let mut all = Vec::new();
        for line in cgroup.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let (root, names): (_, fn() -> Names) = match controllers {
                "" => ("/sys/fs/cgroup", || V2),
                _ if controllers.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", || V1),
                _ => continue,
            };
            let above = Path::new(path.trim_start_matches('/')).ancestors().map(|path| Path::new(root).join(path));
            all.extend(above.map(|group| (group, names())));
        }
        all
    }

    impl Names {
        /// The room within a group's limit. Swap space is not counted there.
        fn narrow(&self, room: Room, group: &Path) -> Room {
            let read = |name| read_to_string(group.join(name)).ok();
            let number = |name| read(name)?.trim().parse::<u64>().ok();
            // A group without a limit says "max", or has no such file.
            let (Some(limit), Some(used)) = (number(self.limit), number(self.used)) else { return room };
            let stat = read("memory.stat").unwrap_or_default();
            let cached = |name| stat.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok()).unwrap_or(0);
            let kept = used.saturating_sub(self.cached.map(cached).iter().sum());
            Room { free: room.free.min(limit.saturating_sub(kept)), all: room.all.min(limit) }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::fs::{create_dir_all, write};

        #[test]
        fn both_free_memory_and_held_memory_limit_an_allocation() {
            let text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\nSwapTotal: 100 kB\nSwapFree: 50 kB\n";
            let room = machine(text).unwrap();
            assert_eq!(room, Room { free: 650 << 10, all: 1100 << 10 });
            assert!(room.has(0, 650 << 10) && !room.has(0, 651 << 10));
            assert!(room.has(500 << 10, 600 << 10) && !room.has(501 << 10, 600 << 10));
            assert_eq!(machine("MemTotal: 5 kB\n"), None);
        }

        #[test]
        fn this_machine_tells_its_memory() {
            let Room { free, all } = Room::now().unwrap();
            assert!(all > 1 << 20 && (1..=all).contains(&free));
        }

        #[test]
        fn a_group_limits_what_is_not_cached() {
            let folder = tempfile::tempdir().unwrap();
            let machine = Room { free: 1000, all: 2000 };
            assert_eq!(V2.narrow(machine, folder.path()), machine);
            for (names, stat) in [
                (V2, "anon 5\ninactive_file 30\nactive_file 20\n"),
                (V1, "inactive_file 1\ntotal_inactive_file 30\ntotal_active_file 20\n"),
            ] {
                let group = folder.path().join(names.limit);
                create_dir_all(&group).unwrap();
                let put = |name: &str, text: &str| write(group.join(name), text).unwrap();
                put(names.used, "250\n");
                put("memory.stat", stat);
                put(names.limit, "max\n");
                assert_eq!(names.narrow(machine, &group), machine);
                put(names.limit, "600\n");
                assert_eq!(names.narrow(machine, &group), Room { free: 400, all: 600 });
                put(names.limit, "9223372036854771712\n");
                assert_eq!(names.narrow(machine, &group), machine);
            }
        }

        #[test]
        fn groups_are_found_up_to_the_root() {
            let paths = |text| groups(text).into_iter().map(|(group, names)| (group, names.limit)).collect::<Vec<_>>();
            let v2 = ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"];
            assert_eq!(paths("0::/a/b\n"), v2.map(|path| (PathBuf::from(path), V2.limit)));
            let v1 = ["/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory/"];
            assert_eq!(paths("9:pids:/\n4:cpu,memory:/a\n"), v1.map(|path| (PathBuf::from(path), V1.limit)));
            assert_eq!(paths("no group"), []);
        }

        #[test]
        fn a_process_has_limits_of_its_own() {
            let status = "VmSize:\t    100 kB\nVmData:\t     40 kB\n";
            let limits = |space, data| {
                format!(
                    "Max data size             {data}            unlimited            bytes     \nMax address space         {space}            unlimited            bytes     \n"
                )
            };
            assert_eq!(own(&limits("unlimited", "unlimited"), status), u64::MAX);
            assert_eq!(own(&limits("204800", "unlimited"), status), 100 << 10);
            assert_eq!(own(&limits("204800", "51200"), status), 10 << 10);
            assert_eq!(own(&limits("1024", "unlimited"), status), 0);
        }
    }
}
