//! Local clusters of real nodes: provisioners, keepers, state.
