//! The resource store, its watches, and the runtime that drives controllers.
