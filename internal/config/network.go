package config

// Network is a named network that customers' connectors can lead into.
type Network struct {
	Name string `yaml:"name"`
}

func (f File) checkNetworks() error { return nil }
