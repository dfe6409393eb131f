//! A share of a list, for one of several processes.

use osp::{Error, Result};
use std::str::FromStr;

/// Every `count`-th video of a list, from video `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

/// The environment: the value of a variable.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Variables with a process's number, from 0, and with the number of processes; the first pair that is set counts.
const RANKS: [[&str; 2]; 4] = [
    // torchrun
    ["RANK", "WORLD_SIZE"],
    // Open MPI
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"],
    // MPICH and Intel MPI
    ["PMI_RANK", "PMI_SIZE"],
    // srun; sbatch sets only the first of the two
    ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"],
];

/// Variables of a Slurm array: a task's number, the least one, their distance, and how many there are.
const ARRAY: [&str; 4] =
    ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT"];

impl FromStr for Shard {
    type Err = Error;

    /// Reads `I/N`, where I counts from 1, or `auto`.
    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Self::of_launcher(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        }
        let parts = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index: index - 1, count }),
            _ => Err(Error::Usage("expected I/N, such as 1/4 to 4/4 for four processes, or auto".into())),
        }
    }
}

impl Shard {
    /// The share that the launcher's variables give this process. In a Slurm array whose tasks start several processes, both
    /// numbers count.
    fn of_launcher(environment: Environment<'_>) -> Result<Self> {
        let array = Self::of_array(environment)?;
        let of_pair = |[rank, size]: [&str; 2]| match (environment(rank), environment(size)) {
            (Some(_), Some(_)) => Some(number(environment, rank).and_then(|index| {
                let count = number(environment, size)?;
                if index < count { Ok(Self { index, count }) } else { Err(wrong(rank, environment)) }
            })),
            _ => None,
        };
        let rank = RANKS.into_iter().find_map(of_pair).transpose()?;
        match (array, rank) {
            (None, None) => Err(Error::Usage(
                "auto finds no variables of Slurm, torchrun or MPI, such as SLURM_ARRAY_TASK_ID, RANK or PMI_RANK; give I/N"
                    .into(),
            )),
            (Some(one), None) | (None, Some(one)) => Ok(one),
            (Some(array), Some(rank)) => {
                Ok(Self { index: array.index * rank.count + rank.index, count: array.count * rank.count })
            }
        }
    }

    fn of_array(environment: Environment<'_>) -> Result<Option<Self>> {
        let [id, min, step, count] = ARRAY;
        if environment(id).is_none() {
            return Ok(None);
        }
        let of = |name| number(environment, name);
        let step_size = if environment(step).is_some() { of(step)?.max(1) } else { 1 };
        let (from_least, count) = (of(id)?.checked_sub(of(min)?).ok_or_else(|| wrong(id, environment))?, of(count)?);
        let index = from_least / step_size;
        // Tasks such as 1, 5 and 7 do not say which of them is the second.
        if !from_least.is_multiple_of(step_size) || index >= count {
            return Err(wrong(id, environment));
        }
        Ok(Some(Self { index, count }))
    }

    /// Whether the video with this index in the list belongs to the share.
    pub fn has(self, video: usize) -> bool {
        video % self.count == self.index
    }
}

fn number(environment: Environment<'_>, name: &str) -> Result<usize> {
    environment(name).and_then(|value| value.parse().ok()).ok_or_else(|| wrong(name, environment))
}

fn wrong(name: &str, environment: Environment<'_>) -> Error {
    let found = environment(name).map_or("nothing".to_owned(), |value| format!("{value:?}"));
    Error::Usage(format!("the launcher's variable {name} is {found}, which names no share; give I/N"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_every_nth_video() {
        let shards = ["1/3", "2/3", "3/3"].map(|text| text.parse::<Shard>().unwrap());
        for video in 0..10 {
            assert_eq!(shards.map(|shard| shard.has(video)), [0, 1, 2].map(|index| video % 3 == index));
        }
        assert!("1/1".parse::<Shard>().unwrap().has(7));
        for wrong in ["", "0/3", "4/3", "1", "1/0", "/", "-1/3", "1/3/3", "one/two"] {
            assert!(wrong.parse::<Shard>().unwrap_err().to_string().contains("1/4"), "{wrong}");
        }
    }

    /// The share in an environment of these variables.
    fn share(variables: &[(&str, &str)]) -> Result<[usize; 2]> {
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Shard::of_launcher(&value).map(|Shard { index, count }| [index, count])
    }

    #[test]
    fn launchers_number_their_processes() {
        assert_eq!(share(&[("RANK", "2"), ("WORLD_SIZE", "4")]).unwrap(), [2, 4]);
        assert_eq!(share(&[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")]).unwrap(), [0, 2]);
        assert_eq!(share(&[("PMI_RANK", "1"), ("PMI_SIZE", "2")]).unwrap(), [1, 2]);
        assert_eq!(share(&[("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "8")]).unwrap(), [3, 8]);
        let array = |id| {
            [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", "4"),
                ("SLURM_ARRAY_TASK_STEP", "2"),
                ("SLURM_ARRAY_TASK_COUNT", "3"),
            ]
        };
        assert_eq!(share(&array("8")).unwrap(), [2, 3]);
        // In a batch script, Slurm sets a process number without a number of processes.
        assert_eq!(share(&[&array("6")[..], &[("SLURM_PROCID", "0")]].concat()).unwrap(), [1, 3]);
        let ranks = [("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "2")];
        assert_eq!(share(&[&array("6")[..], &ranks].concat()).unwrap(), [3, 6]);
        for (wrong, said) in [
            (&[][..], "no variables"),
            (&[("RANK", "4"), ("WORLD_SIZE", "4")], "RANK is \"4\""),
            (&[("RANK", "x"), ("WORLD_SIZE", "4")], "RANK is \"x\""),
            (&array("5"), "SLURM_ARRAY_TASK_ID is \"5\""),
            (&array("10"), "SLURM_ARRAY_TASK_ID is \"10\""),
            (&array("2"), "SLURM_ARRAY_TASK_ID is \"2\""),
            (&array("4")[..1], "SLURM_ARRAY_TASK_MIN is nothing"),
        ] {
            let error = share(wrong).unwrap_err().to_string();
            assert!(error.contains(said), "{wrong:?}: {error}");
        }
    }
}
