//! What the videos of a run begin with: noise alone, an image, or a clip.

use crate::cli::clip::{InputArgs, noted_path};
use crate::cli::console::Console;
use crate::cli::footage::{ChangeArgs, Grid, MethodArgs, covering, image};
use crate::cli::made::settings_of;
use osp::engine::{Edit, Footage, Method, Settings};
use osp::reading::is_stdin;
use osp::video::Clip;
use osp::{Error, Request, Result};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What all videos of a run begin with.
pub enum Material<'a> {
    /// Noise alone.
    Noise,
    /// An image that the first frame of each video shows.
    Image(Still<'a>),
    /// A clip to edit.
    Clip(Edited<'a>),
}

/// An image, and what it became for the sizes of the videos.
pub struct Still<'a> {
    path: &'a Path,
    image: Clip,
    console: &'a Console,
    sizes: RefCell<Vec<([usize; 2], Arc<Footage>)>>,
}

/// A clip to edit, which is read when the model is known.
pub struct Edited<'a> {
    pub input: &'a InputArgs,
    pub change: &'a ChangeArgs,
    pub strength: Option<f32>,
    pub method: &'a MethodArgs,
    footage: OnceCell<Arc<Footage>>,
    /// The prompt of which osp made the clip, if that is asked and known.
    shown: OnceCell<String>,
}

/// Share of the sampler's steps that an edit makes, if none is given. The noise that the models were trained with leaves a quarter
/// of the clip's signal there, and next to nothing from 0.7 on.
const STRENGTH: f32 = 0.5;

impl<'a> Material<'a> {
    /// The image of `--init-image`, if there is one.
    pub fn image(path: Option<&'a Path>, console: &'a Console) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Noise) };
        Ok(Self::Image(Still { path, image: image(path, console)?, console, sizes: RefCell::default() }))
    }

    /// A clip to edit, with a strength and by a method as given.
    pub fn clip(
        input: &'a InputArgs,
        change: &'a ChangeArgs,
        (strength, method): (Option<f32>, &'a MethodArgs),
    ) -> Self {
        Self::Clip(Edited { input, change, strength, method, footage: OnceCell::new(), shown: OnceCell::new() })
    }

    /// The files that are read.
    pub fn reads(&self) -> Vec<PathBuf> {
        match self {
            Self::Noise => Vec::new(),
            Self::Image(still) => vec![still.path.to_path_buf()],
            Self::Clip(Edited { input, change, .. }) => {
                [input.input.clone()].into_iter().chain(change.reads()).collect()
            }
        }
    }

    /// The options by name, for the record and for a later run in any folder.
    pub fn noted(&self) -> BTreeMap<String, String> {
        let noted = match self {
            Self::Noise => Vec::new(),
            Self::Image(still) => noted_path(still.path).map(|path| vec![("init_image", path)]).unwrap_or_default(),
            Self::Clip(Edited { input, change, .. }) => [input.noted(), change.noted()].concat(),
        };
        noted.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Reads the clip.
    pub fn open(&self, grid: Grid, console: &Console) -> Result<()> {
        if let Self::Clip(Edited { input, change, method, footage, shown, .. }) = self {
            // A pipe can be read only once.
            let asked = method.asks_the_clip() && (input.input.is_file() || input.input.is_dir());
            if let Some(made) = asked.then(|| settings_of(&input.input).ok()).flatten() {
                let _ = shown.set(made.0.prompt);
            }
            // A run reads its clip once.
            let _ = footage.set(Arc::new(change.read(input, grid, console)?));
        }
        Ok(())
    }

    /// The footage for a video of these rows and columns, once the clip is read.
    pub fn footage(&self, [height, width]: [usize; 2]) -> Result<Option<Arc<Footage>>> {
        match self {
            Self::Noise => Ok(None),
            Self::Clip(Edited { footage, .. }) => Ok(footage.get().cloned()),
            Self::Image(Still { path, image, console, sizes }) => {
                if let Some((_, known)) = sizes.borrow().iter().find(|(size, _)| *size == [height, width]) {
                    return Ok(Some(known.clone()));
                }
                let footage = Arc::new(Footage::image(covering(path, image, [height, width], console)?)?);
                sizes.borrow_mut().push(([height, width], footage.clone()));
                Ok(Some(footage))
            }
        }
    }

    /// The request as an edit of `footage`; `like` is the request of a video that it repeats.
    pub fn edits(&self, request: Request, footage: &Footage, like: Option<&Settings>) -> Result<Request> {
        let before = like.and_then(|like| like.edit.as_ref());
        before.map_or(Ok(()), |before| self.repeats(before, &footage.edit(1.0, Method::Noise)))?;
        Ok(match self {
            Self::Clip(Edited { change, strength, method, shown, .. }) if !change.extends() => {
                let strength = strength.or(before.map(|before| before.strength)).unwrap_or(STRENGTH);
                let method = method.method(before.map(|before| &before.method), shown.get().map(String::as_str))?;
                request.edits_by(method, footage, strength)
            }
            _ => request.edits(footage, 1.0),
        })
    }
}

impl Material<'_> {
    /// Fails if the edit that is repeated began with more than is given now. Pixels are not in a video's description.
    fn repeats(&self, before: &Edit, now: &Edit) -> Result<()> {
        let lacks = [
            (before.clip.is_some() && now.clip.is_none(), "from a clip", "name it, as in osp edit INPUT"),
            (before.mask.is_some() && now.mask.is_none(), "with a mask", "give it with --mask"),
            (
                before.clip.is_some() && before.first_frame.is_some() && now.first_frame.is_none(),
                "with another first frame",
                "give it with --first-frame",
            ),
            (before.extend.is_some() && now.extend.is_none(), "with frames behind the clip", "give --extend"),
        ];
        match lacks.into_iter().find(|(lacks, ..)| *lacks) {
            None => Ok(()),
            Some((_, what, mend)) => Err(Error::Usage(format!("the other video was made {what}: {mend}"))),
        }
    }

    /// What is given now, but with other pixels than those of the edit that is repeated.
    pub fn differs(&self, before: &Edit) -> Vec<&'static str> {
        let Self::Clip(Edited { footage, .. }) = self else { return Vec::new() };
        let Some(now) = footage.get().map(|footage| footage.edit(1.0, Method::Noise)) else { return Vec::new() };
        let pairs = [
            ("clip", &before.clip, &now.clip),
            ("mask", &before.mask, &now.mask),
            ("first frame", &before.first_frame, &now.first_frame),
        ];
        pairs
            .into_iter()
            .filter(|(_, before, now)| before.is_some() && now.is_some() && before != now)
            .map(|(name, ..)| name)
            .collect()
    }
}

/// What a state's notes say of its footage, as [`Material::noted`] said it, and the files that are read.
pub fn noted_in(notes: &BTreeMap<String, String>) -> (BTreeMap<String, String>, Vec<PathBuf>) {
    const HOW: [&str; 5] = ["max_frames", "input_size", "crop", "feather", "extend"];
    let files = notes.iter().filter(|(name, _)| FILES.contains(&name.as_str()));
    let reads = files.clone().map(|(_, file)| PathBuf::from(file)).collect();
    let how = notes.iter().filter(|(name, _)| HOW.contains(&name.as_str()));
    (files.chain(how).map(|(name, value)| (name.clone(), value.clone())).collect(), reads)
}

/// Notes that name files.
const FILES: [&str; 4] = ["input", "init_image", "mask", "first_frame"];

/// Names the files of a state's notes anew that are not there any more: by their names beside the state, if they are there. The folder of
/// both may have moved.
pub fn find_moved(state: &Path, notes: &mut BTreeMap<String, String>) {
    let gone =
        |name: &str, file: &str| FILES.contains(&name) && !is_stdin(Path::new(file)) && !Path::new(file).exists();
    for (_, value) in notes.iter_mut().filter(|(name, file)| gone(name, file)) {
        let beside = Path::new(value).file_name().map(|file| state.with_file_name(file));
        if let Some(found) = beside.filter(|file| file.exists()).and_then(|file| noted_path(&file)) {
            *value = found;
        }
    }
}

/// The footage of a state, read again; `noted` are the state's notes.
///
/// # Errors
/// [`Error::Media`] with the state's `path` if its footage is not there any more.
pub fn again(
    path: &Path,
    settings: &Settings,
    noted: &dyn Fn(&str) -> Option<String>,
    console: &Console,
) -> Result<Option<Arc<Footage>>> {
    let Some(edit) = &settings.edit else { return Ok(None) };
    let missing = || Error::media(path, "is the state of an edit, and does not say of which file");
    let (place, footage) = match (noted("init_image"), InputArgs::of_notes(noted)) {
        (Some(place), _) => {
            let still = image(Path::new(&place), console)?;
            let still = covering(Path::new(&place), &still, [settings.height, settings.width], console)?;
            (place, Footage::image(still)?)
        }
        (None, Some(input)) if is_stdin(&input.input) => {
            return Err(Error::media(
                path,
                "is the state of an edit of stdin, which cannot be read again; edit a file",
            ));
        }
        (None, Some(input)) => {
            let footage = ChangeArgs::of_notes(noted)?.read(&input, Grid::of(settings), console)?;
            (input.input.display().to_string(), footage)
        }
        (None, None) => return Err(missing()),
    };
    if !footage.is_of(edit) {
        let problem =
            format!("was made with other pixels than {place} and its mask have now; restore them, or begin anew");
        return Err(Error::media(path, problem));
    }
    Ok(Some(Arc::new(footage)))
}
