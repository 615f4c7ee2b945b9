package main

import (
	"bytes"
	"maps"
	"slices"
	"text/template"
)

// writeOperations writes the routing table, the Backend interface and UnimplementedBackend.
func writeOperations(m *model, b *bytes.Buffer) error { return operationsText.Execute(b, m) }

var operationsText = template.Must(template.New("operations").Parse(`package awsapi

import "context"

// Backend carries out the operations. Inputs have been checked against the service model.
// An *Error is answered as it is; any other error becomes InternalServerException.
type Backend interface {
{{- range .Operations}}
	{{.Name}}(ctx context.Context, in *{{.Name}}Input) (*{{.Name}}Output, error)
{{- end}}
}

// UnimplementedBackend answers every operation with a ValidationException that says so.
// Embed it in a Backend that has only some of the operations.
type UnimplementedBackend struct{}

var _ Backend = UnimplementedBackend{}
{{range .Operations}}
// {{.Name}} says that it is not available.
func (UnimplementedBackend) {{.Name}}(context.Context, *{{.Name}}Input) (*{{.Name}}Output, error) {
	return nil, unimplemented("{{.Name}}")
}
{{end}}
// Operations are all operations of the service and of its companions, by name.
var Operations = byName([]*Operation{
{{- range .Operations}}
	{Service: "{{.T.Service}}", Name: "{{.Name}}", Method: "{{.T.Method}}", Path: "{{.T.URI}}", Status: {{.T.Status}}, input: input{{.Name}}, invoke: invoke(Backend.{{.Name}})},
{{- end}}
})
`))

// writeClient writes one typed method per operation.
func writeClient(m *model, b *bytes.Buffer) error { return clientText.Execute(b, m) }

var clientText = template.Must(template.New("client").Parse(`package client

import (
	"context"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

var _ awsapi.Backend = (*Client)(nil)
{{range .Operations}}
// {{.Name}} calls the operation of that name.
func (c *Client) {{.Name}}(ctx context.Context, in *awsapi.{{.Name}}Input) (*awsapi.{{.Name}}Output, error) {
	out := new(awsapi.{{.Name}}Output)
	if err := c.Do(ctx, "{{.Name}}", in, out); err != nil {
		return nil, err
	}
	return out, nil
}
{{end}}`))

// writeErrors writes the modelled errors: HTTP status, and the members of their bodies.
func writeErrors(m *model, b *bytes.Buffer) error {
	names := map[string]bool{}
	for _, service := range m.services {
		for _, e := range service.T {
			names[e.Name] = true
		}
	}
	return errorsText.Execute(b, map[string]any{"Names": slices.Sorted(maps.Keys(names)), "Services": m.services})
}

var errorsText = template.Must(template.New("errors").Parse(`package awsapi

// The errors of the service models.
const (
{{- range .Names}}
	{{.}} ErrorCode = "{{.}}"
{{- end}}
)

// modelledErrors has, by service, the HTTP status of every modelled error and the members its
// body declares.
var modelledErrors = map[string]map[ErrorCode]errorKind{
{{- range .Services}}
	"{{.Name}}": {
	{{- range .T}}
		{{.Name}}: {status: {{.T.Status}}, members: []string{ {{- range .T.Members}}{{if not .T.In}}"{{.Name}}",{{end}}{{end -}} }},
	{{- end}}
	},
{{- end}}
}
`))
