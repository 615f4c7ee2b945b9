package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

const (
	curlTokenTTL = time.Minute // checked when a request begins
	maxCurlBody  = 64 << 20    // bytes of -d
)

// curlFlags are the flags of curl, named as those of curl itself.
type curlFlags struct {
	method, data, json, file string
	headers                  []string
	include, fail, hasBody   bool
	port                     int
	limit                    curlTime
}

func curlCommand() *cobra.Command {
	var f curlFlags
	cmd := &cobra.Command{
		Use:   "curl MICROVM [PATH]",
		Short: "Send a request to a microVM, with a token made for it",
		Long: `Send a request to the endpoint of a microVM and print the answer. The token is made and sent along; a
microVM that sleeps wakes for it. These flags mean what they mean to curl; it has no others.
Control characters in the answer are shown as escapes on a terminal. The exit status is 1 where the
endpoint answers in place of the app, because that cannot be reached.`,
		Example: `  dormouse curl counter /
  dormouse curl counter /echo -d 'hello' -i
  dormouse curl 0c5b7f6e /api/items -X DELETE -H 'accept: application/json'
  dormouse curl counter /picture -o picture.png --port 9000`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: complete(microVMIDs, 1),
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.method, "request", "X", "", "method; GET, or POST with -d")
	flags.StringVarP(&f.data, "data", "d", "", "body: text, @FILE, or - for standard input")
	flags.StringVar(&f.json, "json", "", "body as -d, sent as JSON")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "header, 'name: value'; may be repeated")
	flags.BoolVarP(&f.include, "include", "i", false, "print status and headers of the answer")
	flags.StringVarP(&f.file, "output", "o", "", "write the answer to this file; - is standard output")
	flags.BoolVarP(&f.fail, "fail", "f", false, "exit with status 1 for an answer of 400 and more")
	flags.IntVar(&f.port, "port", defaultPort, "port of the app in the microVM")
	flags.VarP(&f.limit, "max-time", "m", "give up after this time, in seconds or as 1m30s; 0 = never")
	flags.BoolP("silent", "s", false, "as ever: there is no progress meter")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.hasBody = cmd.Flags().Changed("data") || cmd.Flags().Changed("json") // it may be empty
		if f.file == "-" {
			f.file = ""
		}
		path := "/"
		if len(args) > 1 {
			path = args[1]
		}
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if f.limit > 0 {
			limited, cancel := context.WithTimeout(ctx, time.Duration(f.limit))
			defer cancel()
			ctx = limited
		}
		return s.curl(ctx, args[0], path, f)
	}
	return cmd
}

func (s *session) curl(ctx context.Context, name, path string, f curlFlags) error {
	id, err := s.find.MicroVM(ctx, name)
	if err != nil {
		return err
	}
	vm, err := s.API.GetMicrovm(ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: id})
	if err != nil {
		return err
	}
	token, err := s.mint(ctx, id, []awsapi.PortSpecification{{Port: new(int32(f.port))}}, curlTokenTTL)
	if err != nil {
		return err
	}
	request, err := f.request(ctx, vm.Endpoint, path)
	if err != nil {
		return err
	}
	for name, value := range token {
		request.Header.Set(name, value)
	}
	client, err := s.Endpoints()
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("call %s: %w", shortID(id), err)
	}
	defer response.Body.Close()
	if err := f.print(s.screen, response); err != nil {
		return err
	}
	ofApp := !s.explainAnswer(response, vm, f.port)
	if !ofApp || f.fail && response.StatusCode >= http.StatusBadRequest {
		return exitFailed
	}
	return nil
}
