package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// model is the part of spec/model.json that code is generated from. Once it is read, operations,
// shapes and enums are those of all services together.
type model struct {
	Service struct {
		Name string `json:"endpointsId"`
	} `json:"service"`
	Operations ordered[operation] `json:"operations"`
	Shapes     ordered[shape]     `json:"shapes"`
	Enums      ordered[[]string]  `json:"enums"`
	Errors     ordered[failure]   `json:"errors"`
	Companions ordered[companion] `json:"companionServices"`

	services ordered[ordered[failure]] // the errors of every service
}

// readModel reads spec/model.json.
func readModel(text []byte) (*model, error) {
	m := new(model)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	for i := range m.Operations {
		m.Operations[i].T.Service = m.Service.Name
	}
	m.services = ordered[ordered[failure]]{{m.Service.Name, m.Errors}}
	for _, c := range m.Companions {
		if err := m.join(c.Name, c.T); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return m, nil
}

type operation struct {
	Service string `json:"-"`
	// Omits is that absent members are left out of answers; else they are null.
	Omits bool `json:"-"`

	Method string         `json:"method"`
	URI    string         `json:"uri"`
	Status int            `json:"status"`
	Input  ordered[shape] `json:"input"`
	Output ordered[shape] `json:"output"`
	Errors []string       `json:"errors"`
}

// shape is a named shape, or the target of a member with the member's own traits beside it.
type shape struct {
	Kind  string `json:"kind"`  // of a named shape
	Type  string `json:"type"`  // of a member
	Shape string `json:"shape"` // name of the structure or union a member refers to

	Members ordered[shape] `json:"members"`
	Items   *shape         `json:"items"`
	Key     *shape         `json:"key"`
	Value   *shape         `json:"value"`

	MinLength  *int64   `json:"minLength"`
	MaxLength  *int64   `json:"maxLength"`
	MinItems   *int64   `json:"minItems"`
	MaxItems   *int64   `json:"maxItems"`
	MinEntries *int64   `json:"minEntries"`
	MaxEntries *int64   `json:"maxEntries"`
	Minimum    *int64   `json:"minimum"`
	Maximum    *int64   `json:"maximum"`
	Pattern    string   `json:"pattern"`
	Enum       []string `json:"enum"`
	EnumName   string   `json:"enumName"`
	Sensitive  bool     `json:"sensitive"`

	Format string `json:"-"` // of a timestamp: "iso8601", else a number of seconds
	Omits  bool   `json:"-"` // of a named shape, as in operation

	Required         bool   `json:"required"`
	In               string `json:"in"` // uri, query, body, header
	WireName         string `json:"wireName"`
	IdempotencyToken bool   `json:"idempotencyToken"`
}

// bounds are the limits of a shape, whatever they are called for its kind.
func (s shape) bounds() (lowest, highest *int64) {
	for _, b := range []*int64{s.MinLength, s.MinItems, s.MinEntries, s.Minimum} {
		if b != nil {
			lowest = b
		}
	}
	for _, b := range []*int64{s.MaxLength, s.MaxItems, s.MaxEntries, s.Maximum} {
		if b != nil {
			highest = b
		}
	}
	return lowest, highest
}

type failure struct {
	Status  int            `json:"status"`
	Members ordered[shape] `json:"members"`
}

// ordered is a JSON object that keeps the order of its keys, which a Go map would lose.
type ordered[T any] []entry[T]

type entry[T any] struct {
	Name string
	T    T
}

func (o *ordered[T]) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		e := entry[T]{Name: fmt.Sprint(name)}
		if err := d.Decode(&e.T); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		*o = append(*o, e)
	}
	return nil
}

// enumType names the Go type of a member with an enum. Inline enums of list items carry no
// name in the model; the one with the same values is meant.
func (m *model) enumType(s shape) (string, error) {
	if s.EnumName != "" {
		return s.EnumName, nil
	}
	for _, e := range m.Enums {
		if slices.Equal(e.T, s.Enum) {
			return e.Name, nil
		}
	}
	return "", fmt.Errorf("no enum has the values %v", s.Enum)
}
