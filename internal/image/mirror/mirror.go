// Package mirror serves local base images to builders that cannot reach the registry itself.
package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

// Mirror is a read-only registry for the images of one OCI image layout. BuildKit asks a mirror
// first and the registry after a 404; so while the registry answers, the mirror has nothing, and
// the registry's images are the ones that are used.
//
// It is not a go-containerregistry registry.Handler: that one accepts uploads into memory, and
// its clients here are strangers.
type Mirror struct {
	dir       string
	upstream  *Upstream
	names     []string            // as a Dockerfile would say them; an image may have several
	manifests map[string]document // by "repository:tag" and by "repository@digest"
	blobs     map[v1.Hash]bool
}

// document is a manifest or an index.
type document struct {
	kind   string // media type
	digest v1.Hash
}

// New reads the index of the layout at dir. Its images are called what their assets.RefName
// annotation says ("debian:12" is library/debian:12 of the default registry).
func New(dir string, upstream *Upstream) (*Mirror, error) {
	m := &Mirror{dir: dir, upstream: upstream, manifests: map[string]document{}, blobs: map[v1.Hash]bool{}}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("open base images: %w", err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("open base images: %w", err)
	}
	for _, d := range list.Manifests {
		if err := m.add(index, d); err != nil {
			return nil, fmt.Errorf("base image %s: %w", d.Digest, err)
		}
	}
	return m, nil
}

func (m *Mirror) add(index v1.ImageIndex, d v1.Descriptor) error {
	named, err := reference.ParseNormalizedNamed(d.Annotations[assets.RefName])
	if err != nil {
		return fmt.Errorf("its name %q: %w", d.Annotations[assets.RefName], err)
	}
	repository, tag := reference.Path(named), reference.TagNameOnly(named).(reference.Tagged).Tag()
	m.names = append(m.names, reference.FamiliarString(named))
	doc := document{kind: string(d.MediaType), digest: d.Digest}
	m.manifests[repository+":"+tag] = doc
	m.manifests[repository+"@"+d.Digest.String()] = doc
	m.blobs[d.Digest] = true
	image, err := index.Image(d.Digest)
	if err != nil {
		return err
	}
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	m.blobs[manifest.Config.Digest] = true
	for _, layer := range manifest.Layers {
		m.blobs[layer.Digest] = true
	}
	return nil
}

// Dir is the layout that is served.
func (m *Mirror) Dir() string { return m.dir }

// Names are the names of the images, as a Dockerfile would say them.
func (m *Mirror) Names() []string { return m.names }

// Online tells whether the registry itself answers, so that the mirror serves nothing.
func (m *Mirror) Online(ctx context.Context) bool { return m.upstream.Reachable(ctx) }

// Local is the same mirror for those who cannot ask the registry: it always serves.
func (m *Mirror) Local() *Mirror {
	local := *m
	local.upstream = Offline()
	return &local
}

// ServeHTTP speaks the pull half of the distribution specification.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	switch {
	case ok && path == "":
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		w.WriteHeader(http.StatusOK)
	case ok && !m.Online(r.Context()):
		m.serve(w, r, path)
	default:
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN")
	}
}

// serve answers <repository>/manifests/<tag or digest> and <repository>/blobs/<digest>.
func (m *Mirror) serve(w http.ResponseWriter, r *http.Request, path string) {
	rest, name := cutLast(path)
	repository, kind := cutLast(rest)
	switch kind {
	case "manifests":
		doc, ok := m.manifests[repository+":"+name]
		if !ok {
			doc, ok = m.manifests[repository+"@"+name]
		}
		if !ok {
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		m.send(w, r, doc.digest, doc.kind)
	case "blobs":
		digest, err := v1.NewHash(name)
		if err != nil || !m.blobs[digest] {
			refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
			return
		}
		m.send(w, r, digest, "application/octet-stream")
	default:
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN")
	}
}

func cutLast(path string) (before, after string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// send sends a blob, or the range of it that was asked for. Clients check its digest.
func (m *Mirror) send(w http.ResponseWriter, r *http.Request, digest v1.Hash, kind string) {
	file, err := os.Open(filepath.Join(m.dir, "blobs", digest.Algorithm, digest.Hex))
	if err != nil {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", digest.String())
	http.ServeContent(w, r, "", info.ModTime(), file)
}

// refuse answers in the form of the distribution specification's errors.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": http.StatusText(status)}}})
}
