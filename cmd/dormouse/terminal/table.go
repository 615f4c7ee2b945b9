package terminal

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

const (
	// leastColumn is how narrow the last column of a table may get, in characters.
	leastColumn = 20
	// indent is how far what has no room in a line is moved in below it, in characters.
	indent = 4
)

// Table writes rows under a header. Cells must be safe and may be painted. On a terminal the last column
// is wrapped between words; where it has no room, it goes below its row.
func (s *Screen) Table(header []string, rows [][]string) {
	last, left, widest := lastColumn(append(rows[:len(rows):len(rows)], header), s.width)
	t := s.table()
	switch {
	case s.width == 0 || widest <= left:
	case left < leastColumn && last > 0:
		s.stacked(header, rows, last)
		return
	default:
		t.SetColumnConfigs([]table.ColumnConfig{{Number: last + 1, WidthMax: left, WidthMaxEnforcer: wrap}})
	}
	s.fill(t, header, rows)
	s.Printf("%s", ended(t.Render()))
}

// stacked writes a table with its last column below the rest of each row, which is cut where it is too long.
func (s *Screen) stacked(header []string, rows [][]string, last int) {
	t := s.table()
	t.Style().Size.WidthMax = s.width
	short := make([][]string, len(rows))
	for i, row := range rows {
		short[i] = row[:min(last, len(row))]
	}
	above := 0
	if header != nil {
		header, above = header[:last], 1
	}
	s.fill(t, header, short)
	for i, line := range strings.Split(t.Render(), "\n") {
		s.Printf("%s\n", line)
		if row := i - above; row >= 0 && row < len(rows) && len(rows[row]) > last && rows[row][last] != "" {
			for _, part := range strings.Split(wrap(rows[row][last], s.width-indent), "\n") {
				s.Printf("%*s%s\n", indent, "", part)
			}
		}
	}
}

func (s *Screen) table() table.Writer {
	t := table.NewWriter()
	t.SetStyle(bare)
	t.SuppressTrailingSpaces()
	return t
}

func (s *Screen) fill(t table.Writer, header []string, rows [][]string) {
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
}

// ended is a text with the end of its last line.
func ended(text string) string {
	if text == "" {
		return ""
	}
	return text + "\n"
}

// lastColumn is the index of the last column, how much of the width those before leave it, and how much
// it takes.
func lastColumn(rows [][]string, width int) (last, left, widest int) {
	for _, row := range rows {
		last = max(last, len(row)-1)
	}
	left = width
	for column := range last {
		left -= widestOf(rows, column) + len(bare.Box.PaddingRight)
	}
	return last, left, widestOf(rows, last)
}

func widestOf(rows [][]string, column int) (widest int) {
	for _, row := range rows {
		if column < len(row) {
			widest = max(widest, text.StringWidthWithoutEscSequences(row[column]))
		}
	}
	return widest
}

// wrap breaks a cell between words; a word is never broken, because it may be one to copy.
func wrap(cell string, width int) string {
	var lines []string
	line := ""
	for _, word := range strings.Split(cell, " ") {
		if line != "" && text.StringWidthWithoutEscSequences(line+" "+word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n")
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
	Box: table.BoxStyle{PaddingRight: "   ", UnfinishedRow: "…"},
	Format: table.FormatOptions{
		Header: text.FormatDefault, Row: text.FormatDefault, Footer: text.FormatDefault,
	},
}
