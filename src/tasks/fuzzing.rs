//! Ways to readers of this floor for the targets in `fuzz/`, and for nobody else: other builds do not hold them.

use std::io::Cursor;

use super::download::inflate::{Inflate, PIECE_BYTES, Packing};
use super::http::link;
use super::table::{self, Format, Options};
use crate::limits;

/// Reads all rows of a table; `kind` chooses what is told of it.
pub fn table(kind: u8, bytes: &[u8]) {
    let format =
        [Some(Format::Csv), Some(Format::Tsv), Some(Format::Json), Some(Format::Jsonl), None][usize::from(kind % 5)];
    let header = kind & 0x80 == 0;
    let options = Options { format, header, lenient: kind & 0x40 != 0, ..Options::default() };
    let Ok(mut rows) = table::open(Cursor::new(bytes.to_vec()), "", None, &options) else { return };
    let mut read = 0;
    while let Some(row) = rows.next() {
        read += 1;
        assert!(read <= bytes.len() + 1, "more rows than bytes");
        match row {
            Ok(row) => {
                assert!(row.cells.len() <= rows.columns().len().max(limits::TABLE_COLUMNS_MAX), "too many cells")
            }
            Err(table::Trouble::Row { .. }) => {}
            Err(_) => break,
        }
    }
}

/// Unpacks a download whose first byte says what it is.
pub fn packed(bytes: &[u8]) {
    for packing in [Packing::Auto, Packing::Gzip, Packing::Zip] {
        let mut inflate = Inflate::new(packing, false);
        let mut out = Vec::new();
        let whole = bytes.chunks(PIECE_BYTES).all(|piece| {
            out.clear();
            inflate.push(piece, &mut out).is_ok()
        });
        if whole {
            drop(inflate.finish(&mut out));
        }
    }
}

/// Looks for the next page in a `Link` header.
pub fn link(text: &str) -> Option<&str> {
    link::next([text])
}
