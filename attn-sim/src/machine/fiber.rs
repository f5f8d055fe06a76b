//! A CUDA thread's flow of control: a coroutine with a stack of its own.
//!
//! Invariants: a fiber runs on the OS thread that created it; a fiber that is not finished when it is dropped is abandoned: the
//! C++ of a kernel owns nothing, and the primitives suspend without owning anything.

use corosensei::stack::{DefaultStack, Stack};
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::abi::Address;

/// Kernels keep their tiles in registers, which here are locals, several copies of them where the compiler inlines.
const STACK_BYTES: usize = 256 * 1024;

/// A suspended flow of control.
pub(crate) struct Fiber {
    coroutine: Coroutine<(), (), (), DefaultStack>,
}

/// The way back from a running fiber to its scheduler.
#[derive(Clone, Copy)]
pub(crate) struct Suspender(*const Yielder<(), ()>);

impl Suspender {
    /// Leaves the fiber until it is resumed.
    ///
    /// # Safety
    /// Must be called on the fiber that this was made for.
    pub(crate) unsafe fn suspend(self) {
        // SAFETY: the yielder lives on the running fiber's stack, as the caller promises.
        unsafe { (*self.0).suspend(()) }
    }
}

/// A pool of stacks.
#[derive(Default)]
pub(crate) struct Stacks(Vec<DefaultStack>);

impl Stacks {
    pub(crate) fn take(&mut self) -> DefaultStack {
        self.0.pop().unwrap_or_else(|| DefaultStack::new(STACK_BYTES).expect("memory for a thread's stack"))
    }
}

/// The lowest and the highest address of a stack.
pub(crate) fn extent(stack: &DefaultStack) -> (Address, Address) {
    (stack.limit().get(), stack.base().get())
}

impl Fiber {
    /// A fiber that runs `body` when first resumed.
    pub(crate) fn new(stack: DefaultStack, body: impl FnOnce(Suspender) + 'static) -> Fiber {
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| body(Suspender(yielder)));
        Fiber { coroutine }
    }

    /// Runs until the next suspension; whether the body has ended.
    pub(crate) fn resume(&mut self) -> bool {
        matches!(self.coroutine.resume(()), CoroutineResult::Return(()))
    }

    /// Ends the fiber wherever it stands, and gives its stack to others.
    pub(crate) fn recycle(mut self, stacks: &mut Stacks) {
        if !self.coroutine.done() {
            // SAFETY: nothing on the stack owns anything (see above), so that skipping its destructors is harmless.
            unsafe { self.coroutine.force_reset() };
        }
        stacks.0.push(self.coroutine.into_stack());
    }
}
