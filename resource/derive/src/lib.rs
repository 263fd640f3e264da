//! The #[resource] attribute and its relatives: one struct, every form.
