//! What Blob Storage owes beyond the contract.
