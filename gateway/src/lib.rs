//! The forebay program: configuration, command line, roles, ingest, HTTP
