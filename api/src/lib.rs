//! The wire: generated services, the method-to-role table, the client library.
