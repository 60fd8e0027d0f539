//! The resources that an operation may act on, found by their id.

use std::path::PathBuf;

use futures::future::{BoxFuture, FutureExt as _};
use serde_json::Value;

use crate::effect::Effect;
use crate::error::{Refusal, StepError};
use crate::resource::{Resource, ResourceId};
use crate::step::{Step, StepContext};

/// The resources that a plan or a recovery may act on.
///
/// It is implemented for `&R` of every [`Resource`], for tuples, slices and vectors of worlds, and
/// for `&dyn World`; nobody else implements it.
pub trait World: sealed::Sealed + Sync {
    /// The resource with this id.
    #[doc(hidden)]
    fn find(&self, id: &ResourceId) -> Option<&dyn AnyResource>;
}

mod sealed {
    pub trait Sealed {}
}

/// A [`Resource`] whose steps are data.
#[doc(hidden)]
pub trait AnyResource: Sync {
    fn lock_path(&self) -> Option<PathBuf>;
    fn family(&self) -> &'static str;
    fn effect(&self, step: &Value) -> Result<Effect, serde_json::Error>;
    fn check<'a>(
        &'a self,
        step: &'a Value,
        cx: &'a StepContext,
    ) -> BoxFuture<'a, Result<Vec<Refusal>, StepError>>;
    fn run<'a>(
        &'a self,
        step: &'a Value,
        cx: &'a StepContext,
    ) -> BoxFuture<'a, Result<(), StepError>>;
    fn undo<'a>(
        &'a self,
        step: &'a Value,
        cx: &'a StepContext,
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

fn read<S: Step>(step: &Value) -> Result<S, StepError> {
    serde_json::from_value(step.clone()).map_err(|error| {
        StepError::permanent(format!("a step of `{}` cannot be read: {error}", S::FAMILY))
            .remedy("run the program that wrote the journal, or a newer one")
    })
}

impl<R: Resource> AnyResource for R {
    fn lock_path(&self) -> Option<PathBuf> {
        Resource::lock_path(self)
    }

    fn family(&self) -> &'static str {
        R::Step::FAMILY
    }

    fn effect(&self, step: &Value) -> Result<Effect, serde_json::Error> {
        serde_json::from_value::<R::Step>(step.clone()).map(|step| step.effect())
    }

    fn check<'a>(
        &'a self,
        step: &'a Value,
        cx: &'a StepContext,
    ) -> BoxFuture<'a, Result<Vec<Refusal>, StepError>> {
        async move { read::<R::Step>(step)?.check(self, cx).await }.boxed()
    }

    fn run<'a>(
        &'a self,
        step: &'a Value,
        cx: &'a StepContext,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move { read::<R::Step>(step)?.run(self, cx).await }.boxed()
    }

    fn undo<'a>(
        &'a self,
        step: &'a Value,
        cx: &'a StepContext,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move { read::<R::Step>(step)?.undo(self, cx).await }.boxed()
    }
}

impl<R: Resource> sealed::Sealed for &R {}
impl<R: Resource> World for &R {
    fn find(&self, id: &ResourceId) -> Option<&dyn AnyResource> {
        (Resource::id(*self) == *id).then_some(*self as &dyn AnyResource)
    }
}

impl sealed::Sealed for &dyn World {}
impl World for &dyn World {
    fn find(&self, id: &ResourceId) -> Option<&dyn AnyResource> {
        (**self).find(id)
    }
}

impl<W: World> sealed::Sealed for [W] {}
impl<W: World> World for [W] {
    fn find(&self, id: &ResourceId) -> Option<&dyn AnyResource> {
        self.iter().find_map(|world| world.find(id))
    }
}

impl<W: World> sealed::Sealed for Vec<W> {}
impl<W: World> World for Vec<W> {
    fn find(&self, id: &ResourceId) -> Option<&dyn AnyResource> {
        self.as_slice().find(id)
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: World),+> sealed::Sealed for ($($name,)+) {}
        impl<$($name: World),+> World for ($($name,)+) {
            fn find(&self, id: &ResourceId) -> Option<&dyn AnyResource> {
                #[expect(non_snake_case, reason = "the type's letter names the value")]
                let ($($name,)+) = self;
                None$(.or_else(|| $name.find(id)))+
            }
        }
    };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
