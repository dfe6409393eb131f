//! What the process has open, and the rules for every call: who may make it, and which error it returns.

use crate::Outcome;
use crate::image::Function;
use crate::memory::{Pinned, Pool};
use crate::settings::{Plant, Settings};
use crate::streams::Streams;
use cudarc::driver::sys::CUresult;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new(Settings::of_environment())));

thread_local! {
    /// The context that is current on this thread; 0 is none.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Everything.
pub struct State {
    pub settings: Settings,
    /// Whether `cuInit` has succeeded.
    pub initialized: bool,
    context: Context,
    pub pool: Pool,
    pub pinned: Pinned,
    pub streams: Streams,
    /// Each module's functions, by name.
    pub modules: BTreeMap<usize, BTreeMap<String, Function>>,
    /// Functions that the host has looked up, with their module.
    pub functions: BTreeMap<usize, (usize, String)>,
    /// Uses of the kernel or the function that shall fail.
    uses: u64,
    pub failure: Option<Failure>,
    handles: usize,
}

/// The primary context of the only GPU that can be opened.
#[derive(Default)]
struct Context {
    handle: usize,
    /// How often it is retained.
    retained: usize,
    /// The thread that retained it first.
    opened_by: Option<ThreadId>,
}

/// A failure of work on the GPU.
#[derive(Clone, Copy)]
pub struct Failure {
    pub code: CUresult,
    /// Whether a call has returned it.
    reported: bool,
}

/// A call that is allowed at any time.
pub fn at_any_time(call: impl FnOnce(&mut State) -> Outcome<()>) -> CUresult {
    call(&mut lock()).err().unwrap_or(CUresult::CUDA_SUCCESS)
}

/// A call of the function `name`, which needs `cuInit` before it.
pub fn initialized(name: &str, call: impl FnOnce(&mut State) -> Outcome<()>) -> CUresult {
    at_any_time(|state| {
        if !state.initialized {
            return Err(CUresult::CUDA_ERROR_NOT_INITIALIZED);
        }
        if state.fails_now(name) {
            return state.refuse(CUresult::CUDA_ERROR_INVALID_VALUE, "the settings let this call fail");
        }
        call(state)
    })
}

/// A call of the function `name`, which needs a context on its thread. It may return the error of earlier work, and lets
/// work run.
pub fn in_context(name: &str, call: impl FnOnce(&mut State) -> Outcome<()>) -> CUresult {
    initialized(name, |state| {
        match state.current() {
            0 => return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT),
            current if current != state.context.handle => return Err(CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED),
            _ => {}
        }
        state.report(false)?;
        call(state)?;
        state.let_work_run();
        Ok(())
    })
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what the stand-in lacks.
pub fn not_modelled(what: &str) -> CUresult {
    eprintln!("stand-in: {what} is not modelled");
    CUresult::CUDA_ERROR_NOT_SUPPORTED
}

impl State {
    fn new(settings: Settings) -> Self {
        Self {
            pool: Pool::new(settings.memory),
            streams: Streams::new(settings.seed),
            settings,
            initialized: false,
            context: Context::default(),
            pinned: Pinned::default(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            uses: 0,
            failure: None,
            handles: 0,
        }
    }

    /// A handle that was never used before.
    pub fn new_handle(&mut self) -> usize {
        self.handles += 64;
        self.handles
    }

    /// The context that is current on this thread; 0 is none.
    pub fn current(&self) -> usize {
        CURRENT.get()
    }

    /// Makes a context current on this thread; 0 makes none current.
    pub fn set_current(&self, context: usize) -> Outcome<()> {
        if context != 0 && context != self.context.handle {
            return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
        let opened_here = self.context.opened_by == Some(std::thread::current().id());
        if opened_here || !self.plants(Plant::UnboundThread) {
            CURRENT.set(context);
        }
        Ok(())
    }

    /// The primary context, for one more user.
    pub fn retain(&mut self) -> usize {
        if self.context.retained == 0 {
            self.context =
                Context { handle: self.new_handle(), retained: 0, opened_by: Some(std::thread::current().id()) };
        }
        self.context.retained += 1;
        self.context.handle
    }

    /// Ends one use of the primary context. The last one destroys it, with everything in it.
    pub fn release(&mut self) -> Outcome<()> {
        let left = self.context.retained.checked_sub(1).ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
        self.context.retained = left;
        if left == 0 {
            self.context = Context::default();
            self.pool = Pool::new(self.settings.memory);
            self.streams = Streams::new(self.settings.seed);
            self.pinned = Pinned::default();
            self.modules.clear();
            self.functions.clear();
        }
        Ok(())
    }

    /// Counts a use of a kernel or a function. Whether the settings let this one fail.
    pub fn fails_now(&mut self, name: &str) -> bool {
        let Some((failing, number)) = &self.settings.fail else { return false };
        self.uses += u64::from(failing == name);
        failing == name && self.uses == *number
    }

    /// Whether the program shall seem to have this fault.
    pub fn plants(&self, plant: Plant) -> bool {
        self.settings.plant == Some(plant)
    }

    /// Notes a failure of work on the GPU. It stays, and nothing runs after it.
    pub fn fail(&mut self, code: CUresult, what: &str) {
        self.explain(what);
        self.failure.get_or_insert(Failure { code, reported: false });
        self.streams.abandon();
    }

    /// Returns the failure of earlier work. A call that waits for the work must return it (`must`); any other call may,
    /// until one has. From then on, all do.
    pub fn report(&mut self, must: bool) -> Outcome<()> {
        let Some(failure) = &mut self.failure else { return Ok(()) };
        let may = match self.settings.seed {
            0 => false,
            1 => true,
            _ => self.streams.chance.one_in(4),
        };
        if failure.reported || must || may {
            failure.reported = true;
            return Err(failure.code);
        }
        Ok(())
    }

    /// Explains an error on stderr, if the user asks for it. A driver prints nothing.
    pub fn explain(&self, what: &str) {
        if self.settings.log {
            eprintln!("stand-in: {what}");
        }
    }

    /// Explains the error `code`, and returns it.
    pub fn refuse<T>(&self, code: CUresult, what: &str) -> Outcome<T> {
        self.explain(&format!("{what}: {code:?}"));
        Err(code)
    }
}
