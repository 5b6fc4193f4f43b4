//! Tables for people: columns under their names, no frames, so that they can be read, cut and pasted.

use comfy_table::{ContentArrangement, Table, presets};

use super::output::visible;

/// Lays rows out under their heads; every row has one cell a head.
pub(super) fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(heads);
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // The last column is padded too; nobody wants to paste that.
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Cells stay on one line and cannot steer the terminal.
fn one_line(cell: &str) -> String {
    visible(cell).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_names() {
        let rows = [vec!["run_1".to_owned(), "订单\n同步".to_owned()], vec!["run_22".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["RUN", "WORKFLOW"], rows), "RUN     WORKFLOW\nrun_1   订单 同步\nrun_22  b");
    }
}
