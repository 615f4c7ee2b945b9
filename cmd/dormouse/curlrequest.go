package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// request is what the flags ask for.
func (f *curlFlags) request(ctx context.Context, endpoint, path string) (*http.Request, error) {
	method, text, kind := f.method, f.data, "application/x-www-form-urlencoded" // as curl does
	if f.json != "" {
		text, kind = f.json, "application/json"
	}
	var body io.Reader = http.NoBody
	if text != "" {
		content, err := argument(text, maxCurlBody)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(content)
	}
	if method == "" {
		method = map[bool]string{true: http.MethodGet, false: http.MethodPost}[text == ""]
	}
	request, err := http.NewRequestWithContext(ctx, method, "https://"+endpoint+"/"+strings.TrimPrefix(path, "/"), body)
	if err != nil {
		return nil, usagef("%v", err)
	}
	if text != "" {
		request.Header.Set("content-type", kind)
	}
	request.Header.Set("user-agent", "dormouse/"+version)
	if f.port != defaultPort {
		request.Header.Set(portHeader, strconv.Itoa(f.port))
	}
	for _, header := range f.headers {
		name, value, found := strings.Cut(header, ":")
		if !found {
			return nil, usagef("the header %q has no colon", header)
		}
		request.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return request, nil
}
