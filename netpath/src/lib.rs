//! netpath's loader: definitions, reconciliation and the data path's user side.
