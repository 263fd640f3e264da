//! The conformance suite against both kinds of store.

use engine::Store;
use engine::testing::{Item, conformance};

#[tokio::test]
async fn the_store_in_memory() {
    let store = Store::new();
    store.register::<Item>();
    conformance(&store, "test").await;
    conformance(&store, "another-namespace").await;
}

#[tokio::test]
async fn the_durable_store() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let store = Store::open(directory.path()).unwrap();
        store.register::<Item>();
        conformance(&store, "test").await;
    }
}
