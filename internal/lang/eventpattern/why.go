package eventpattern

// Mismatches says why a record does not match: the fields that are missing or whose values do not match, by their paths, for people. Of alternatives it
// takes the one of which the fewest fields fail. It returns nil if the record matches.
func (p *Pattern) Mismatches(record, data []byte) (why []string) {
	key := p.dialect.dataKey()
	m, inner := matchers.Get().(*matcher), matchers.Get().(*matcher)
	defer m.free()
	defer inner.free()
	if !m.doc.parse(record) || m.doc.nodes[0].kind != object {
		return []string{"the record is no JSON object"}
	}
	json := key != "" && inner.doc.parse(data) && inner.doc.nodes[0].kind <= array
	for _, b := range p.branches {
		m.begin(b)
		m.members(b.root, 0, key)
		var all []string
		if n := b.root.find(key); key != "" && n != nil {
			switch {
			case json && n.leaf != nil:
				all = append(all, key+" is JSON, the pattern asks for a string")
			case !json && len(n.kids) > 0:
				all = append(all, key+" is no JSON object, the pattern asks for its fields")
			case json:
				m.walkIn(inner, n)
			default:
				m.set(n, scalar{kind: text, text: data})
			}
		}
		if len(all) == 0 {
			if m.satisfied(0, len(b.leaves)) {
				return nil
			}
			all = m.failures(b.root, "", all)
		}
		if why == nil || len(all) < len(why) {
			why = all
		}
	}
	return why
}

// failures adds what is wrong with the fields of a subtree.
func (m *matcher) failures(n *node, path string, all []string) []string {
	if n.leaf != nil {
		switch s := m.states[n.lo]; {
		case s == seen && n.leaf.absent:
			all = append(all, path+" is there")
		case s == seen:
			all = append(all, path+" does not match")
		case s == unseen && !n.leaf.absent:
			all = append(all, path+" is missing")
		}
	}
	for _, k := range n.kids {
		name := k.name
		if path != "" {
			name = path + "." + name
		}
		all = m.failures(k, name, all)
	}
	return all
}
