//! A kernel in memory for tests.

use std::sync::Mutex;

use super::*;

/// Links, addresses and routes in memory; every change is recorded.
pub(crate) struct FakeKernel {
    pub(crate) state: Mutex<State>,
    count: watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) changes: Vec<Change>,
}

impl FakeKernel {
    pub(crate) fn new(state: State) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), count: watch::Sender::new(0) })
    }

    pub(crate) fn taken(&self) -> Vec<Change> {
        std::mem::take(&mut self.state.lock().unwrap().changes)
    }
}

#[async_trait]
impl Kernel for FakeKernel {
    async fn links(&self) -> Result<Vec<Link>, KernelError> {
        Ok(self.state.lock().unwrap().links.clone())
    }

    async fn addresses(&self) -> Result<Vec<Address>, KernelError> {
        Ok(self.state.lock().unwrap().addresses.clone())
    }

    async fn routes(&self) -> Result<Vec<Route>, KernelError> {
        Ok(self.state.lock().unwrap().routes.clone())
    }

    async fn apply(&self, change: Change) -> Result<(), KernelError> {
        self.state.lock().unwrap().changes.push(change);
        self.count.send_modify(|count| *count += 1);
        Ok(())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}
