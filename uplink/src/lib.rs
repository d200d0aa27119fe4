//! Store-and-forward from a gateway log to a hub, each record once
