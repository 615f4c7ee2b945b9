package terminal

import (
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Table writes rows under a header. Cells must be safe and may be painted.
func (s *Screen) Table(header []string, rows [][]string) {
	t := table.NewWriter()
	t.SetOutputMirror(s.Out)
	t.SetStyle(bare)
	t.SuppressTrailingSpaces()
	if header != nil {
		painted := make([]string, len(header))
		for i, name := range header {
			painted[i] = s.Paint(Faint, name)
		}
		t.AppendHeader(cells(painted))
	}
	for _, row := range rows {
		t.AppendRow(cells(row))
	}
	t.Render()
}

// Card writes names and values below each other; pairs without a value are left out.
func (s *Screen) Card(pairs [][2]string) {
	var rows [][]string
	for _, pair := range pairs {
		if pair[1] != "" {
			rows = append(rows, []string{s.Paint(Faint, pair[0]), pair[1]})
		}
	}
	s.Table(nil, rows)
}

func cells(row []string) table.Row {
	out := make(table.Row, len(row))
	for i, cell := range row {
		out[i] = cell
	}
	return out
}

// bare is a table without lines: columns are three spaces apart.
var bare = table.Style{
	Box: table.BoxStyle{PaddingRight: "   "},
	Format: table.FormatOptions{
		Header: text.FormatDefault, Row: text.FormatDefault, Footer: text.FormatDefault,
	},
}
