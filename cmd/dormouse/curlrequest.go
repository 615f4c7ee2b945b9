package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// curlTime is a length of time as curl takes it, a number of seconds, or as every other verb does.
type curlTime time.Duration

func (c *curlTime) Type() string { return "time" }

func (c *curlTime) String() string {
	if *c == 0 {
		return ""
	}
	return time.Duration(*c).String()
}

func (c *curlTime) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no time such as 5, 0.5 or 1m30s", text)
	}
	*c = curlTime(d)
	return nil
}

// request is what the flags ask for.
func (f *curlFlags) request(ctx context.Context, endpoint, path string) (*http.Request, error) {
	method, text, kind := f.method, f.data, "application/x-www-form-urlencoded" // as curl does
	if f.json != "" {
		text, kind = f.json, "application/json"
	}
	var body io.Reader = http.NoBody
	if text != "" {
		content, err := argument(ctx, text, maxCurlBody)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(content)
	}
	if method == "" {
		method = map[bool]string{false: http.MethodGet, true: http.MethodPost}[f.hasBody]
	}
	request, err := http.NewRequestWithContext(ctx, method, "https://"+endpoint+"/"+strings.TrimPrefix(path, "/"), body)
	if err != nil {
		return nil, usagef("%v", err)
	}
	if f.hasBody {
		request.Header.Set("content-type", kind)
	}
	request.Header.Set("user-agent", "dormouse/"+version)
	if f.port != defaultPort {
		request.Header.Set(portHeader, strconv.Itoa(f.port))
	}
	return request, f.addHeaders(request)
}

// addHeaders adds what was typed: instead of a header that the request has by itself, and beside another that was typed.
func (f *curlFlags) addHeaders(request *http.Request) error {
	typed := http.Header{}
	for _, header := range f.headers {
		name, value, found := strings.Cut(header, ":")
		if !found {
			return usagef("the header %q has no colon", header)
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if strings.EqualFold(name, "host") {
			request.Host = value
			continue
		}
		typed.Add(name, value)
	}
	maps.Copy(request.Header, typed)
	return nil
}
